"""The port Messenger: Twilio against a loopback Twilio, and the console."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import responses

from chatbotctl.core.adapters.console import ConsoleMessenger
from chatbotctl.core.adapters.twilio_whatsapp import TwilioWhatsApp
from chatbotctl.core.errors import MessengerError
from chatbotctl.core.ports import Messenger
from tests.fakes.loopback import Response
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio, refusal

BUSINESS, CUSTOMER = "whatsapp:+15550001111", "whatsapp:+15552223333"
SECRET_TEXT = "canary-text-of-the-customer"


def twilio(url: str, *, token: str = TOKEN, timeout: float = 5.0) -> TwilioWhatsApp:
    return TwilioWhatsApp(account_sid=ACCOUNT, auth_token=token, api_base_url=url, timeout_seconds=timeout)


@pytest.fixture
def messenger(fake_twilio: FakeTwilio) -> TwilioWhatsApp:
    return twilio(fake_twilio.url)


def send(messenger: Messenger, body: str = SECRET_TEXT) -> None:
    messenger.send(sender=BUSINESS, recipient=CUSTOMER, body=body)


def failure(messenger: Messenger, body: str = SECRET_TEXT) -> MessengerError:
    with pytest.raises(MessengerError) as raised:
        send(messenger, body)
    error = raised.value
    assert body not in f"{error.message} {error.hint} {error.reason}"
    assert TOKEN not in f"{error.message} {error.hint} {error.reason}"
    assert error.retryable or not error.unknown_outcome, "what may have been sent is looked for, and then sent again"
    return error


# what every messenger does


@pytest.fixture(params=["twilio", "console"])
def any_messenger(request: pytest.FixtureRequest, fake_twilio: FakeTwilio) -> Messenger:
    messengers: dict[str, Callable[[], Messenger]] = {
        "twilio": lambda: twilio(fake_twilio.url),
        "console": lambda: ConsoleMessenger(lambda line: None),
    }
    return messengers[request.param]()


def test_each_sent_message_has_an_id_of_its_own_and_a_status(any_messenger: Messenger) -> None:
    first = any_messenger.send(sender=BUSINESS, recipient=CUSTOMER, body="one")
    second = any_messenger.send(sender=BUSINESS, recipient=CUSTOMER, body="two")
    assert first.sid != second.sid
    assert first.status
    assert second.status


def test_nothing_is_found_that_was_not_sent(any_messenger: Messenger) -> None:
    assert any_messenger.find(sender=BUSINESS, recipient=CUSTOMER, body="one", since=time.time()) == []


def test_many_threads_may_send_at_once(any_messenger: Messenger) -> None:
    sids: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: sids.append(any_messenger.send(sender=BUSINESS, recipient=CUSTOMER, body=str(n)).sid)
        )
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sids)) == 20


# the console


def test_the_console_prints_who_would_get_what() -> None:
    lines: list[str] = []
    sent = ConsoleMessenger(lines.append).send(sender=BUSINESS, recipient=CUSTOMER, body="Hello\nthere")
    assert lines == [f"-> {CUSTOMER}: Hello\nthere"]
    assert sent.sid.startswith("console-")
    assert sent.status == "printed"


# Twilio: what arrives


@pytest.mark.parametrize("body", ["Hi", "Grüße, 世界 👋🏽", "a & b = c + d % e", "line\none", "x" * 1600])
def test_the_customer_gets_the_text_as_it_is(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, body: str) -> None:
    sent = messenger.send(sender=BUSINESS, recipient=CUSTOMER, body=body)
    assert fake_twilio.messages[0]["sid"] == sent.sid
    assert (fake_twilio.messages[0]["from"], fake_twilio.messages[0]["to"]) == (BUSINESS, CUSTOMER)
    assert fake_twilio.sent(to=CUSTOMER) == [body]
    assert sent.status == "queued"


def test_a_customer_who_hides_the_number_is_answered_too(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp) -> None:
    hidden = "whatsapp:US.1349abcdEFGH"
    messenger.send(sender=BUSINESS, recipient=hidden, body="Hi")
    assert fake_twilio.sent(to=hidden) == ["Hi"]


def test_twilios_own_region_variables_do_not_bend_a_given_base_url(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWILIO_REGION", "au1")
    monkeypatch.setenv("TWILIO_EDGE", "sydney")
    send(messenger)
    assert fake_twilio.sent() == [SECRET_TEXT]


def test_without_a_base_url_messages_go_to_twilio_itself() -> None:
    messenger = TwilioWhatsApp(account_sid=ACCOUNT, auth_token=TOKEN, api_base_url=None, timeout_seconds=5)
    with responses.RequestsMock() as http:
        http.post(
            f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json",
            status=201,
            json={"sid": "SM1", "status": "queued"},
        )
        assert messenger.send(sender=BUSINESS, recipient=CUSTOMER, body="Hi").sid == "SM1"


# Twilio: what goes wrong


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (63016, "24 hours"),
        (21610, "opted out"),
        (63014, "blocked"),
        (63024, "cannot be reached on WhatsApp"),
        (21617, "1,600"),
        (63007, "not a WhatsApp sender"),
        (99999, "refused the message (99999)"),
    ],
)
def test_a_refusal_is_final_and_says_why(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, code: int, said: str
) -> None:
    fake_twilio.plan(response=refusal(code, message=f"Twilio quotes {SECRET_TEXT}"))
    error = failure(messenger)
    assert error.reason == str(code)
    assert said in error.message
    assert not error.retryable
    assert not error.unknown_outcome
    assert len(fake_twilio.requests) == 1, "an adapter never tries again by itself"


def test_wrong_credentials_are_final_and_name_the_settings(fake_twilio: FakeTwilio) -> None:
    error = failure(twilio(fake_twilio.url, token="wrong"))
    assert error.reason == "20003"
    assert not error.retryable
    assert "TWILIO_AUTH_TOKEN" in (error.hint or "")


def test_a_missing_token_is_as_wrong_as_another(fake_twilio: FakeTwilio) -> None:
    assert failure(twilio(fake_twilio.url, token="")).reason == "20003"


@pytest.mark.parametrize("status", [429, 400])
def test_too_many_requests_may_be_tried_again_after_the_time_twilio_names(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, status: int
) -> None:
    fake_twilio.plan(response=refusal(20429, status=status, headers={"Retry-After": "7"}))
    error = failure(messenger)
    assert (error.reason, error.retryable, error.retry_after) == ("20429", True, 7.0)


@pytest.mark.parametrize(("told", "seconds"), [("1.5", 1.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None)])
def test_the_time_twilio_names_may_be_in_any_form(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, told: str, seconds: float | None
) -> None:
    fake_twilio.plan(response=refusal(20429, status=429, headers={"Retry-After": told}))
    assert failure(messenger).retry_after == seconds


def test_too_many_requests_from_a_gateway_without_a_code_may_be_tried_again(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp
) -> None:
    fake_twilio.plan(response=Response(429, b"<html>slow down</html>", {"Content-Type": "text/html"}))
    error = failure(messenger)
    assert (error.reason, error.retryable, error.retry_after) == ("429", True, None)


def test_a_retry_after_belongs_to_one_answer_only(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp) -> None:
    fake_twilio.plan(response=refusal(20429, status=429, headers={"Retry-After": "7"}))
    fake_twilio.plan(response=refusal(20429, status=429))
    assert failure(messenger).retry_after == 7.0
    assert failure(messenger).retry_after is None


@pytest.mark.parametrize("status", [500, 502, 503])
def test_after_a_server_error_one_has_to_look(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, status: int) -> None:
    fake_twilio.plan(response=Response(status, b"oops"), accept=True)
    error = failure(messenger)
    assert error.unknown_outcome
    assert fake_twilio.sent() == [SECRET_TEXT]


def test_a_newer_style_of_twilio_error_is_understood(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp) -> None:
    body = {"type": "https://www.twilio.com/docs/errors/63016", "title": "t", "status": 400, "code": 63016}
    fake_twilio.plan(response=Response(400, body))
    assert failure(messenger).reason == "63016"


def test_when_twilio_is_slow_one_has_to_look(fake_twilio: FakeTwilio) -> None:
    fake_twilio.plan(delay=3)
    error = failure(twilio(fake_twilio.url, timeout=0.2))
    assert (error.reason, error.unknown_outcome) == ("timeout", True)


def test_when_the_connection_breaks_after_the_request_one_has_to_look(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp
) -> None:
    fake_twilio.plan(cut=True, accept=True)
    error = failure(messenger)
    assert (error.reason, error.unknown_outcome) == ("connection_lost", True)
    assert fake_twilio.sent() == [SECRET_TEXT]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"status": "queued"}', b"[]", b"null"])
def test_a_success_that_names_no_message_has_to_be_looked_at(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, body: bytes
) -> None:
    fake_twilio.plan(response=Response(201, body))
    error = failure(messenger)
    assert (error.reason, error.unknown_outcome) == ("unclear_answer", True)


# what is looked for


def found(messenger: Messenger, body: str = SECRET_TEXT, *, since: float | None = None) -> list[str]:
    listed = messenger.find(
        sender=BUSINESS, recipient=CUSTOMER, body=body, since=time.time() if since is None else since
    )
    return [message.sid for message in listed]


def test_message_that_was_taken_without_a_word_is_found_by_its_text(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp
) -> None:
    send(messenger, "something else")
    fake_twilio.plan(method="POST", cut=True, accept=True)
    failure(messenger)

    assert found(messenger) == [fake_twilio.messages[-1]["sid"]]


def test_the_same_words_to_another_customer_or_of_another_day_are_not_it(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp
) -> None:
    messenger.send(sender=BUSINESS, recipient="whatsapp:+15559990000", body=SECRET_TEXT)
    messenger.send(sender="whatsapp:+15559990001", recipient=CUSTOMER, body=SECRET_TEXT)
    send(messenger)

    assert found(messenger, since=time.time() + 86_400) == []
    assert found(messenger) == [fake_twilio.messages[-1]["sid"]]


def test_newest_of_the_same_words_comes_first(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp) -> None:
    for _ in range(3):
        send(messenger)

    assert found(messenger) == [message["sid"] for message in reversed(fake_twilio.messages)]


def test_line_ends_and_blanks_around_a_text_do_not_hide_it(fake_twilio: FakeTwilio, messenger: TwilioWhatsApp) -> None:
    send(messenger, "one\ntwo ")
    fake_twilio.messages[-1]["body"] = "one\r\ntwo"

    assert len(found(messenger, "one\ntwo ")) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null"])
def test_list_that_makes_no_sense_is_no_proof_that_nothing_was_sent(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, body: bytes
) -> None:
    fake_twilio.plan(method="GET", response=Response(200, body))

    with pytest.raises(MessengerError) as raised:
        found(messenger)

    assert raised.value.retryable


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes no more connections: its queue is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port
        for client in waiting:
            client.close()


def test_a_host_that_does_not_take_the_connection_may_be_tried_again(deaf_port: int) -> None:
    error = failure(twilio(f"http://127.0.0.1:{deaf_port}", timeout=0.2))
    assert (error.reason, error.retryable) == ("unreachable", True)


def test_a_closed_port_may_be_tried_again() -> None:
    with FakeTwilio() as fake:
        url = fake.url
    error = failure(twilio(url))
    assert (error.reason, error.retryable) == ("unreachable", True)


def test_a_base_url_that_is_none_names_the_setting() -> None:
    error = failure(twilio("localhost:1"))
    assert not error.retryable
    assert not error.unknown_outcome
    assert "TWILIO_API_BASE_URL" in (error.hint or "")


def test_text_that_no_encoding_can_hold_is_refused_and_not_sent(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp
) -> None:
    error = failure(messenger, body="half a \ud83d")
    assert error.reason == "unreadable_text"
    assert not error.unknown_outcome
    assert error.__cause__ is None, "a UnicodeError carries the text"
    assert fake_twilio.requests == []


def test_a_sent_text_is_in_no_log(
    fake_twilio: FakeTwilio, messenger: TwilioWhatsApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        send(messenger)
        fake_twilio.plan(response=refusal(63016, message=SECRET_TEXT))
        failure(messenger)
    assert SECRET_TEXT not in caplog.text
    assert TOKEN not in caplog.text
