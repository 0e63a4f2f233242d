"""What customers, operators and Twilio see when something outside is down, hung, or killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.acceptance.install import ANA, SHOP, Install, Vendors, wait_for
from tests.fakes.loopback import Response
from tests.fakes.twilio_server import TOKEN

#: A port of nobody.
CLOSED = "127.0.0.1:1"


def add_shop(install: Install, *more: str) -> None:
    install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat", *more)


def test_redis_slack_and_google_down_neither_lose_nor_hold_up_a_reply(install: Install, vendors: Vendors) -> None:
    add_shop(install, "--language", "en")
    server = install.serve(
        REDIS_URL=f"redis://{CLOSED}/0",
        SLACK_API_BASE_URL=f"http://{CLOSED}/api/",
        TRANSLATE_ENDPOINT=f"http://{CLOSED}",
        CHATBOTCTL_TRANSLATE__ENABLED="true",
        CHATBOTCTL_TRANSLATE__ASSISTANT="true",
    )
    answer = install.write(server, "Hello")
    assert answer.json() == {"success": True}
    assert vendors.twilio.sent() == ["You said: Hello"]
    ready = requests.get(f"{server.url}/readyz", timeout=10)
    assert ready.status_code == 200
    assert ready.json()["redis"] == "unreachable"


def test_slack_gets_everything_in_order_once_it_is_back(install: Install, vendors: Vendors) -> None:
    unavailable = Response(503, {"ok": False, "error": "service_unavailable"})
    vendors.slack.plan("chat.postMessage", times=3, response=unavailable)
    add_shop(install)
    server = install.serve(CHATBOTCTL_WORKER__QUIET_SECONDS="0")
    for number in range(3):
        install.write(server, f"Line {number}")
    wait_for("six lines", lambda: sum(len(c.messages) for c in vendors.slack.channels.values()) == 6)
    (channel,) = vendors.slack.channels.values()
    said = [message.reading.rpartition("Line ")[2] for message in channel.messages]
    assert said == ["0", "0", "1", "1", "2", "2"]


def test_an_assistant_that_fails_costs_an_apology_an_alert_and_a_500(install: Install, vendors: Vendors) -> None:
    vendors.openai.plan("chat/completions", times=3, response=Response(500, {"error": {"message": "x"}}))
    add_shop(install, "--apology", "Sorry, later.", "--slack-user", "U7")
    server = install.serve()
    answer = install.write(server, "Hello")
    assert answer.status_code == 500
    assert answer.json()["code"] == "assistant_failed"
    assert vendors.twilio.sent() == ["Sorry, later."]
    wait_for("the alert", lambda: any("U7" in m.reading for c in vendors.slack.channels.values() for m in c.messages))


def test_sigterm_lets_the_turn_in_flight_finish(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    vendors.openai.thinking = 2.0
    server = install.serve()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(install.write, server, "Hello")
        wait_for("the assistant being asked", lambda: vendors.openai.asked)
        assert server.stop() == 0
        assert answer.result().json() == {"success": True}
    assert vendors.twilio.sent() == ["You said: Hello"]


def test_a_message_whose_server_was_killed_is_answered_by_the_next_one(any_install: Install, vendors: Vendors) -> None:
    add_shop(any_install)
    vendors.openai.thinking = 30.0
    first = any_install.serve(CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS="0", CHATBOTCTL_WORKER__LEASE_SECONDS="1")
    assert any_install.write(first, "Hello").json() == {"success": True, "queued": True}
    wait_for("the assistant being asked", lambda: vendors.openai.asked)
    first.kill()
    vendors.openai.thinking = 0.0
    any_install.serve(CHATBOTCTL_WORKER__LEASE_SECONDS="1")
    wait_for("the reply", lambda: vendors.twilio.sent() == ["You said: Hello"])


def test_fifty_copies_of_a_message_are_one_message(any_install: Install, vendors: Vendors) -> None:
    add_shop(any_install)
    server = any_install.serve("--threads", "60")
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: any_install.write(server, "Hello", MessageSid="SM1"), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    wait_for("the reply", lambda: vendors.twilio.sent())
    assert vendors.twilio.sent() == ["You said: Hello"]
    assert any_install.ok("thread", "list", "--json").json[0]["messages"] == 2


def test_a_slow_assistant_leaves_room_for_other_messages(install: Install, vendors: Vendors) -> None:
    add_shop(install)
    vendors.openai.thinking = 4.0
    server = install.serve("--threads", "4", CHATBOTCTL_WORKER__QUIET_SECONDS="0")
    customers = [f"whatsapp:+1555765{n:04d}" for n in range(12)]
    answers: list[dict[str, object]] = []
    threads = [
        threading.Thread(target=lambda c=customer: answers.append(install.write(server, "Hello", From=c).json()))
        for customer in customers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count({"success": True, "queued": True}) >= 8
    wait_for("all replies", lambda: len(vendors.twilio.sent()) == 12)


def test_one_businesss_secrets_and_words_stay_out_of_logs_and_of_the_other_business(
    install: Install, vendors: Vendors
) -> None:
    add_shop(install, "--instructions", "canary-instructions")
    install.ok("business", "add", "other", "--number", "whatsapp:+15550002222", "--backend", "chat")
    install.ok("business", "credentials", "set", "shop", "openai", stdin="sk-canary-key\n")
    server = install.serve(CHATBOTCTL_LOG__LEVEL="debug")
    install.write(server, "canary-words")
    install.write(server, "Hello", To="whatsapp:+15550002222")
    wait_for("both replies", lambda: len(vendors.twilio.sent()) == 2)
    wait_for("all lines in Slack", lambda: sum(len(c.messages) for c in vendors.slack.channels.values()) == 4)
    server.stop()
    for canary in ("canary", TOKEN, ANA.removeprefix("whatsapp:")):
        assert canary not in server.log
    theirs = [r for r in vendors.openai.requests if b"canary-words" not in r.body]
    assert theirs
    assert not any(b"canary" in r.body or "canary" in r.headers.get("authorization", "") for r in theirs)
