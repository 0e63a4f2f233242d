"""The main job on real input: WhatsApp in, the assistant's answer out, both in Slack, on both kinds of storage."""

from __future__ import annotations

import pytest
import redis

from tests.acceptance.install import ANA, SHOP, Install, Vendors, wait_for
from tests.specs import needs_specs, violations

BACKENDS = {
    "openai": (),
    "openai with local history": ("--history", "local"),
    "chat": (),
    "threads": ("--assistant-id", "asst_1"),
}


def add_shop(install: Install, backend: str = "openai", *more: str) -> None:
    options = ("--slack-user", "U1", "--instructions", "Be kind.")
    install.ok("business", "add", "shop", "--number", SHOP, "--backend", backend.split()[0], *options, *more)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_customer_is_answered_and_people_can_read_along(any_install: Install, vendors: Vendors, backend: str) -> None:
    add_shop(any_install, backend, *BACKENDS[backend])
    server = any_install.serve()

    answer = any_install.write(server, "Do you have **bread**?", ProfileName="Ana")

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert vendors.twilio.sent(to=ANA, sender=SHOP) == ["You said: Do you have *bread*?"]
    wait_for("both lines in Slack", lambda: [len(c.messages) for c in vendors.slack.channels.values()] == [2])
    channel = next(iter(vendors.slack.channels.values()))
    customer, reply = (message.reading for message in channel.messages)
    assert "Ana (+15557654321)" in customer
    assert "Do you have **bread**?" in customer
    assert "You said: Do you have *bread*?" in reply
    assert channel.private
    assert channel.name.startswith("thread-")
    assert "U1" in channel.members

    thread = any_install.ok("thread", "list", "--json").json[0]
    assert (thread["from"], thread["to"], thread["business"], thread["messages"]) == (ANA, SHOP, "shop", 2)
    shown = any_install.ok("thread", "show", str(thread["id"]), "--json").json
    assert [(m["direction"], m["author"]) for m in shown["messages"]] == [
        ("inbound", "customer"),
        ("outbound", "assistant"),
    ]
    assert server.stop() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_message_goes_on_with_the_same_conversation(install: Install, vendors: Vendors, backend: str) -> None:
    add_shop(install, backend, *BACKENDS[backend])
    server = install.serve(CHATBOTCTL_WORKER__QUIET_SECONDS="0")
    install.write(server, "I am Ana.")
    install.write(server, "Who am I?")
    known = [
        [text for _, text in conversation.said]
        for conversation in (*vendors.openai.conversations.values(), *vendors.openai.threads.threads.values())
    ]
    asked = [[*(text for _, text in asked.history), asked.text] for asked in vendors.openai.asked]
    everything = ["I am Ana.", "You said: I am Ana.", "Who am I?"]
    assert any(said[:3] == everything for said in [*known, *asked])


def test_the_thread_stands_in_redis_as_operators_look_for_it(shared_install: Install, redis_url: str) -> None:
    add_shop(shared_install)
    server = shared_install.serve()
    shared_install.write(server, "Hello")
    thread = shared_install.ok("thread", "list", "--json").json[0]
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hgetall(f"{ANA}_{SHOP}") == {"from": ANA, "to": SHOP, "thread_id": thread["thread_id"]}
    assert shared_install.ok("cache", "verify", "--json").json == {"missing": 0, "stale": 0, "different": 0}


@needs_specs
def test_what_is_sent_is_what_the_vendors_describe(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    server = install.serve()
    install.write(server, "Hello")
    for request in vendors.openai.requests:
        spec = "openai_responses_conversations"
        assert violations(spec, request.method, request.path, body=request.json) == []
    for request in vendors.twilio.requests:
        assert violations("twilio_messages", request.method, request.path, form=request.form) == []
    assert vendors.openai.requests
    assert vendors.twilio.requests


def test_translation_serves_the_assistant_the_customer_and_the_people(install: Install, vendors: Vendors) -> None:
    vendors.google.languages = lambda text: "de" if "Brot" in text else "en"
    vendors.google.dictionary = {
        ("Haben Sie Brot?", "en"): "Do you have bread?",
        ("You said: Do you have bread?", "de"): "Sie sagten: Haben Sie Brot?",
    }
    add_shop(install, "openai", "--language", "en")
    server = install.serve(CHATBOTCTL_TRANSLATE__ENABLED="true", CHATBOTCTL_TRANSLATE__ASSISTANT="true")
    install.write(server, "Haben Sie Brot?")
    wait_for("the reply", vendors.twilio.sent)
    assert vendors.openai.asked[0].text == "Do you have bread?"
    assert vendors.twilio.sent() == ["Sie sagten: Haben Sie Brot?"]
    wait_for("both lines in Slack", lambda: [len(c.messages) for c in vendors.slack.channels.values()] == [2])
    customer, reply = (m.reading for m in next(iter(vendors.slack.channels.values())).messages)
    assert "Haben Sie Brot?" in customer
    assert "Do you have bread?" in customer
    assert "You said: Do you have bread?" in reply
    assert "Sie sagten: Haben Sie Brot?" in reply


def test_in_layout_thread_one_channel_holds_all_conversations(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    server = install.serve(CHATBOTCTL_SLACK__LAYOUT="thread")
    install.write(server, "Hello")
    install.write(server, "Good morning", From="whatsapp:+15557654322")
    wait_for("all lines in Slack", lambda: [len(c.messages) for c in vendors.slack.channels.values()] == [6])
    channel = vendors.slack.channel("shop")
    heads = [message for message in channel.messages if message.thread_ts is None]
    assert len(heads) == 2
    assert {message.thread_ts for message in channel.messages} - {None} == {head.ts for head in heads}


def test_a_simulation_against_a_running_server_reaches_no_customer(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    server = install.serve(CHATBOTCTL_WORKER__QUIET_SECONDS="0")
    done = install.ok("simulate", "--url", server.url, "--from", ANA, "--body", "Hello", "--json").json
    assert (done["outcome"], done["status"], done["replies"]) == ("replied", 200, ["You said: Hello"])
    assert vendors.twilio.requests == []
    assert "You said" not in server.log, "a server for real prints nobody's words"
    install.write(server, "Now for real")
    assert vendors.twilio.sent() == ["You said: Now for real"]
    wait_for("the real lines in Slack", lambda: [len(c.messages) for c in vendors.slack.channels.values()] == [2])


def test_a_forged_webhook_is_refused_and_nothing_of_it_is_stored(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    server = install.serve()
    install.environment["TWILIO_AUTH_TOKEN"] = "somebody-elses"
    answer = install.write(server, "Hello")
    assert (answer.status_code, answer.json()["code"]) == (403, "bad_signature")
    assert install.ok("thread", "list", "--json").json == []
