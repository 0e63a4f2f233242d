"""A customer's message from end to end in one process: taken in, answered, sent by WhatsApp, shown in Slack."""

from __future__ import annotations

import io
import threading
from contextlib import redirect_stderr
from typing import Any

import pytest

from chatbotctl.core import log
from chatbotctl.core.errors import (
    AssistantNotUsable,
    BusinessDisabled,
    BusinessNotFound,
    MessageTooLong,
    StorageUnavailable,
    UnreadableMessage,
)
from chatbotctl.core.flow.await_outcome import await_outcome
from chatbotctl.core.flow.pipeline import receive
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.message import NO_TEXT_KINDS, Media, Result
from chatbotctl.core.storage import businesses, conversations, knowledge, outcomes
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import (
    BUSINESS,
    CUSTOMER,
    add_business,
    answer,
    eventually,
    message,
    outcome,
    post_to_slack,
    running,
    take_in,
    work,
)

BACKENDS: dict[str, dict[str, Any]] = {
    "openai": {},
    "openai-local": {"history": "local"},
    "chat": {"backend": "chat"},
    "threads": {"backend": "threads", "assistant_id": "asst_1"},
}


def disable(core: Core, business: Business) -> None:
    with core.database.write() as tx:
        businesses.set_disabled(tx, business, True, "closed")


def the_channel(slack: FakeSlack) -> str:
    (channel,) = slack.channels
    return channel


# every backend on every store


@pytest.mark.parametrize("backend", BACKENDS)
def test_customer_is_answered_twice_and_slack_shows_it(
    any_site: Core, backend: str, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site, instructions="Be brief.", slack_users=["U1"], **BACKENDS[backend])
    with running(any_site):
        for body in ("Do you have bread?", "And cake?"):
            became = receive(any_site.services, message(body, profile_name="Ana"), wait_seconds=20)
            assert became.result is Result.REPLIED
    post_to_slack(any_site, became.conversation_id)

    assert fake_twilio.sent(to=CUSTOMER, sender=BUSINESS) == ["You said: Do you have bread?", "You said: And cake?"]
    assert fake_slack.texts(the_channel(fake_slack)) == [
        "Ana (+15552220000)\nDo you have bread?",
        "Assistant\nYou said: Do you have bread?",
        "Ana (+15552220000)\nAnd cake?",
        "Assistant\nYou said: And cake?",
    ]
    second = fake_openai.asked[-1]
    assert second.history == (("user", "Do you have bread?"), ("assistant", "You said: Do you have bread?"))
    assert second.instructions in ("Be brief.", None if backend == "threads" else "Be brief.")


def test_knowledge_answers_without_any_provider(
    any_site: Core, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI
) -> None:
    bakery = add_business(any_site, backend="knowledge")
    with any_site.database.write() as tx:
        knowledge.put(tx, bakery, "faq.md", b"## When are you open?\n\nWe are open from seven to six.\n")

    assert answer(any_site, "When are you open?").result is Result.REPLIED

    assert "seven to six" in fake_twilio.sent()[0]
    assert fake_openai.requests == []


def test_answer_that_knowledge_does_not_have_calls_a_person(any_site: Core, fake_slack: FakeSlack) -> None:
    add_business(any_site, backend="knowledge", slack_users=["U1"])
    accepted = take_in(any_site, "Do you repair bicycles?")
    work(any_site, accepted.conversation_id)
    post_to_slack(any_site, accepted.conversation_id)

    alert = fake_slack.texts(the_channel(fake_slack))[-1]
    assert "<@U1>" in alert
    assert "A person is needed" in alert


def test_worker_goes_on_with_what_was_stored_before_it_started(any_site: Core, fake_twilio: FakeTwilio) -> None:
    """The wake-up is lost with the process; the sweeper finds the conversation in the database."""
    add_business(any_site)
    take_in(any_site, "Hello?")

    with running(any_site):
        eventually(lambda: fake_twilio.sent() == ["You said: Hello?"])


# once only, and whose message it is


def test_copy_of_an_answered_message_is_told_the_same_and_sent_nothing(
    any_site: Core, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI
) -> None:
    add_business(any_site)
    with running(any_site):
        first = receive(any_site.services, message(sid="SM1"), wait_seconds=20)
        copy = receive(any_site.services, message(sid="SM1"), wait_seconds=20)

    assert copy == first
    assert len(fake_twilio.sent()) == len(fake_openai.asked) == 1


def test_copy_after_the_business_was_disabled_is_told_what_the_first_was(site: Core) -> None:
    bakery = add_business(site)
    first = take_in(site, sid="SM1")
    work(site, first.conversation_id)
    disable(site, bakery)

    assert take_in(site, sid="SM1").duplicate
    with pytest.raises(BusinessDisabled):
        take_in(site, sid="SM2")


def test_sid_of_another_business_is_refused_and_shows_nothing(site: Core) -> None:
    add_business(site)
    add_business(site, "garage", "whatsapp:+15550002222")
    first = take_in(site, "secret of the bakery", sid="SM1")

    with pytest.raises(UnreadableMessage, match="belongs to a message of another business"):
        take_in(site, sid="SM1", receiver="whatsapp:+15550002222")

    assert outcome(site, first).result is Result.QUEUED


def test_two_businesses_have_their_own_instructions_accounts_and_transcripts(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    garage_number = "whatsapp:+15550002222"
    add_business(any_site, backend="chat", instructions="You are the bakery.")
    add_business(any_site, "garage", garage_number, backend="chat", instructions="You are the garage.")

    answer(any_site, "canary of the bakery")
    answer(any_site, "Oil change?", receiver=garage_number)

    assert fake_openai.asked[-1].instructions == "You are the garage."
    assert fake_openai.asked[-1].history == ()
    assert fake_twilio.sent(sender=garage_number) == ["You said: Oil change?"]


# while its answer is awaited


def test_message_is_queued_when_the_database_goes_away_after_it_was_stored(
    site: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StorageUnavailable

    add_business(site)
    monkeypatch.setattr(outcomes, "of_message", away)

    became = receive(site.services, message(sid="SM1"), wait_seconds=20)

    assert (became.result, became.message_sid, became.conversation_id) == (Result.QUEUED, "SM1", 1)
    monkeypatch.undo()
    with site.database.read() as tx:
        assert outcomes.of_message(tx, "SM1") == became


def test_who_waits_while_the_business_is_removed_is_told_that_there_is_none(site: Core) -> None:
    bakery = add_business(site)
    accepted = take_in(site)
    with site.database.write() as tx:
        businesses.remove(tx, bakery)

    with pytest.raises(BusinessNotFound, match="removed"):
        await_outcome(site.services, accepted, wait_seconds=20)


# what is refused


def test_unknown_number_is_refused_with_a_masked_number_and_nothing_is_stored(site: Core) -> None:
    with pytest.raises(BusinessNotFound, match=r"\+15•••••1111"):
        take_in(site)

    with site.database.read() as tx:
        assert tx.execute(tables.clients.select()).all() == []


@pytest.mark.parametrize(("own", "allowed"), [(None, 1600), (10, 10)])
def test_message_over_the_limit_is_refused_and_at_the_limit_taken(site: Core, own: int | None, allowed: int) -> None:
    add_business(site, max_message_chars=own)

    assert take_in(site, "é" * allowed).seq == 1
    with pytest.raises(MessageTooLong, match=str(allowed)):
        take_in(site, "é" * (allowed + 1))


def test_message_for_a_business_without_a_usable_assistant_is_stored_seen_and_apologised_for(
    site: Core, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(site, backend="threads")

    with pytest.raises(AssistantNotUsable):
        receive(site.services, message("Hello?"), wait_seconds=0)
    work(site, 1)
    post_to_slack(site, 1)

    assert fake_twilio.sent() == [site.settings.replies.apology]
    shown = fake_slack.texts(the_channel(fake_slack))
    assert "Hello?" in shown[0]
    assert "could not answer" in shown[-1]


@pytest.mark.parametrize(("body", "kind"), [("Hello?", "text"), ("", "image")])
def test_business_disabled_before_the_turn_sends_nothing_at_all(
    site: Core, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI, body: str, kind: str
) -> None:
    bakery = add_business(site)
    accepted = take_in(site, body, kind=kind)
    disable(site, bakery)

    work(site, accepted.conversation_id)

    assert (outcome(site, accepted).result, outcome(site, accepted).code) == (Result.FAILED, "business_disabled")
    assert fake_twilio.sent() == []
    assert fake_openai.asked == []


# what is no text


@pytest.mark.parametrize("kind", NO_TEXT_KINDS)
def test_message_without_text_gets_a_polite_line_and_never_reaches_the_model(
    site: Core, kind: str, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(site)
    media = (Media(url="https://media.example/1", content_type="image/png"),) if kind == "image" else ()

    became = answer(site, "", kind=kind, media=media)
    post_to_slack(site, became.conversation_id)

    assert became.result is Result.REPLIED
    assert fake_twilio.sent() == [site.settings.replies.text_only]
    assert fake_openai.requests == []
    shown = fake_slack.texts(the_channel(fake_slack))
    assert f"[{NO_TEXT_KINDS[kind]}]" in shown[0]
    assert ("https://media.example/1" in shown[0]) == bool(media)
    assert shown[1] == f"Automatic line\n{site.settings.replies.text_only}"


def test_text_with_an_image_is_answered_and_the_model_knows_of_the_image(
    site: Core, fake_openai: FakeOpenAI, fake_slack: FakeSlack
) -> None:
    add_business(site)

    became = answer(site, "Is this cake still there?", kind="image")
    post_to_slack(site, became.conversation_id)

    assert fake_openai.asked[0].text == "Is this cake still there?\n(An image came with this message.)"
    assert "[An image]" in fake_slack.texts(the_channel(fake_slack))[0]


# what the customer reads


def test_long_answer_leaves_in_parts_in_order(site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    fake_openai.reply = lambda _: "\n\n".join(f"{number} " + "word " * 200 for number in range(1, 5))

    answer(site)

    sent = fake_twilio.sent()
    assert len(sent) > 1
    assert all(len(part) <= 1600 for part in sent)
    assert " ".join(" ".join(sent).split()) == " ".join(fake_openai.reply("").split())


def test_markdown_and_citations_become_what_whatsapp_shows(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    fake_openai.reply = lambda _: "# Hours\n**Open** until six【4:0†faq.md】. See [our site](https://bakery.example)."

    answer(site)

    (sent,) = fake_twilio.sent()
    assert "*Open* until six." in sent
    assert "https://bakery.example" in sent
    assert not any(mark in sent for mark in ("【", "#", "**", "]("))


def test_answer_with_a_character_that_no_store_takes_is_sent_without_it(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site)
    fake_openai.reply = lambda _: "Until\0six\ud83d."

    assert answer(any_site).result is Result.REPLIED
    (sent,) = fake_twilio.sent()
    assert sent.startswith("Until")
    assert "\0" not in sent


def test_customers_words_and_secrets_show_in_no_log(site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(site)
    fake_openai.plan("/v1/responses", cut=True)
    with redirect_stderr(io.StringIO()) as stderr:
        log.configure(level="debug", format="json")
        with running(site):
            receive(site.services, message("canary-8841 in words"), wait_seconds=20)
            receive(site.services, message("canary-8842 in words"), wait_seconds=20)

    written = stderr.getvalue()
    assert "turn_ended" in written
    for secret in ("canary", "in words", "sk-test", "xoxb-test", "twilio-token", "5552220000"):
        assert secret not in written


def test_everything_that_was_said_is_in_the_history(any_site: Core) -> None:
    add_business(any_site)
    became = answer(any_site, "Do you have bread?", sid="SM1")

    with any_site.database.read() as tx:
        entries = conversations.history(tx, became.conversation_id, last=None)
    assert [(entry.author.value, entry.body) for entry in entries] == [
        ("customer", "Do you have bread?"),
        ("assistant", "You said: Do you have bread?"),
    ]


def test_worker_answers_when_the_machine_has_no_more_threads(
    any_site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(any_site)
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name.startswith("turn"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with running(any_site):
        monkeypatch.setattr(threading.Thread, "start", no_more)
        accepted = take_in(any_site)
        eventually(lambda: outcome(any_site, accepted).result is Result.REPLIED)
    assert len(fake_twilio.sent()) == 1
