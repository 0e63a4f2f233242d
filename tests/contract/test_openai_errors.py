"""Every way OpenAI's protocol fails: what is asked again, after how long, what never, and what nobody may read."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.errors import AssistantError, ThreadGone
from tests.contract.openai_backends import KEY, PRIVATE, SHOP, Backends, error_body, open_backends
from tests.fakes.loopback import Response


@pytest.fixture
def backends() -> Iterator[Backends]:
    with open_backends() as backends:
        yield backends


# HTTP statuses


@pytest.mark.parametrize(
    ("status", "body", "retryable", "unknown", "reason"),
    [
        (400, error_body(), False, False, "400"),
        (400, error_body(code="context_length_exceeded"), False, False, "context_length_exceeded"),
        (400, error_body(code="conversation_locked"), True, False, "conversation_locked"),
        (401, error_body(code="invalid_api_key"), False, False, "invalid_api_key"),
        (402, error_body("Insufficient Balance"), False, False, "402"),
        (
            403,
            error_body(code="unsupported_country_region_territory"),
            False,
            False,
            "unsupported_country_region_territory",
        ),
        (404, error_body("The model `x` does not exist", code="model_not_found"), False, False, "model_not_found"),
        (408, error_body(), True, False, "408"),
        (409, error_body(), True, False, "409"),
        (413, b"<html>too large</html>", False, False, "413"),
        (422, {"detail": "unprocessable"}, False, False, "422"),
        (429, error_body(code="rate_limit_exceeded", kind="requests"), True, False, "rate_limit_exceeded"),
        (429, error_body(code="insufficient_quota", kind="insufficient_quota"), False, False, "insufficient_quota"),
        (429, error_body(kind="insufficient_quota"), False, False, "429"),
        (429, error_body(code="billing_hard_limit_reached"), False, False, "billing_hard_limit_reached"),
        (429, error_body(code="project_spend_limit_reached"), False, False, "project_spend_limit_reached"),
        (429, b"slow down", True, False, "429"),
        (500, error_body(kind="server_error"), True, True, "500"),
        (502, b"<html>bad gateway</html>", True, True, "502"),
        (503, error_body("The engine is overloaded"), True, False, "503"),
        (504, b"", True, True, "504"),
        (529, error_body(), True, True, "529"),
    ],
)
def test_a_status_says_whether_to_ask_again(
    backends: Backends, status: int, body: Any, retryable: bool, unknown: bool, reason: str
) -> None:
    backends.fake.plan("/responses", response=Response(status, body))
    error = backends.failure()
    assert not isinstance(error, ThreadGone)
    assert (error.retryable, error.unknown_outcome, error.reason) == (retryable, unknown, reason)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_the_provider_asks_for_is_passed_on(
    backends: Backends, status: int, headers: dict[str, str], seconds: float | None
) -> None:
    backends.fake.plan("/responses", response=Response(status, error_body(), headers))
    assert backends.failure().retry_after == seconds


def test_a_wait_until_a_moment_counts_from_now(backends: Backends) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    backends.fake.plan("/responses", response=Response(429, error_body(), {"Retry-After": moment}))
    waits = backends.failure().retry_after
    assert waits is not None
    assert 3000 < waits <= 3600


# connections


def test_a_server_that_is_down_was_never_asked() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        responses = OpenAIResponses(api_key=KEY, base_url=url, default_model="gpt-test")
        with pytest.raises(AssistantError) as caught:
            responses.start_thread(business=SHOP, customer_hash="c0ffee", transcript=(), timeout=5)
        responses.close()
    error = caught.value
    assert (error.reason, error.retryable, error.unknown_outcome) == ("connection", True, False)


def test_a_connection_cut_after_the_question_leaves_the_outcome_open(backends: Backends) -> None:
    backends.fake.plan("/responses", cut=True, accept=True)
    error = backends.failure()
    assert (error.reason, error.retryable, error.unknown_outcome) == ("connection", True, True)
    assert len(backends.fake.asked) == 1


def test_an_answer_that_comes_too_late_leaves_the_outcome_open(backends: Backends) -> None:
    handle = backends.conversation()
    backends.fake.plan("/responses", delay=5)
    with pytest.raises(AssistantError) as caught:
        backends.responses.ask(question=backends.question(handle, timeout=0.2))
    error = caught.value
    assert (error.reason, error.retryable, error.unknown_outcome) == ("timeout", True, True)


def test_an_answer_that_only_trickles_in_ends_in_time() -> None:
    """Some servers send blank lines for as long as the model is busy."""
    over = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
            while not over.wait(0.05):
                connection.sendall(b"\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=trickle, args=(listener,))
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        responses = OpenAIResponses(api_key=KEY, base_url=url, default_model="gpt-test")
        with pytest.raises(AssistantError) as caught:
            responses.start_thread(business=SHOP, customer_hash="c0ffee", transcript=(), timeout=0.3)
        over.set()
        server.join()
        responses.close()
    assert (caught.value.reason, caught.value.unknown_outcome) == ("timeout", True)


# conversations that are gone, busy or somebody else's


def test_a_conversation_that_the_provider_lost_is_gone(backends: Backends) -> None:
    conversation, thread = backends.conversation(), backends.thread()
    backends.fake.forget()
    assert isinstance(backends.failure(conversation), ThreadGone)
    with pytest.raises(ThreadGone):
        backends.threads.ask(question=backends.question(thread))


@pytest.mark.parametrize("words", ["Conversation not found", "No such object: 'conv_1'", "unknown conversation"])
def test_other_servers_words_for_a_lost_conversation_are_understood(backends: Backends, words: str) -> None:
    backends.fake.plan("/responses", response=Response(404, error_body(words)))
    assert isinstance(backends.failure("conv_1"), ThreadGone)


@pytest.mark.parametrize(
    "body", [b"404 page not found", {"detail": "Not Found"}, error_body("Vector store with id 'vs_1'")]
)
def test_a_404_about_something_else_keeps_the_conversation(backends: Backends, body: Any) -> None:
    backends.fake.plan("/responses", response=Response(404, body))
    error = backends.failure()
    assert not isinstance(error, ThreadGone)
    assert not error.retryable


def test_an_unknown_model_keeps_the_conversation(backends: Backends) -> None:
    backends.fake.unknown_models = {"gpt-test"}
    error = backends.failure()
    assert (type(error), error.reason) == (AssistantError, "model_not_found")


def test_a_vector_store_that_is_gone_keeps_the_conversation(backends: Backends) -> None:
    handle = backends.conversation()
    business = replace(SHOP, vector_store_ids=("vs_gone",))
    with pytest.raises(AssistantError) as caught:
        backends.responses.ask(question=backends.question(handle, business=business))
    assert (type(caught.value), caught.value.retryable) == (AssistantError, False)


def test_an_old_thread_is_gone_without_a_request(backends: Backends) -> None:
    assert isinstance(backends.failure("thread_abc123"), ThreadGone)
    assert backends.fake.requests == []


def test_a_server_without_conversations_is_not_taken_for_a_lost_one(backends: Backends) -> None:
    backends.fake.plan("/conversations", response=Response(404, error_body("Invalid URL (POST /v1/conversations)")))
    with pytest.raises(AssistantError) as caught:
        backends.conversation()
    assert not isinstance(caught.value, ThreadGone)


def test_a_busy_conversation_is_worth_asking_again(backends: Backends) -> None:
    handle = backends.conversation()
    backends.fake.conversations[handle].busy = True
    error = backends.failure(handle)
    assert (error.reason, error.retryable, error.unknown_outcome) == ("conversation_locked", True, False)
    backends.fake.conversations[handle].busy = False
    assert backends.ask(handle).text


# what nobody may read


def test_neither_the_key_nor_the_customers_words_stand_in_errors(backends: Backends) -> None:
    telltale = f"Key {KEY} asked: {PRIVATE}"
    bodies: list[Any] = [error_body(telltale, code=KEY, kind=PRIVATE), telltale.encode(), {"detail": telltale}]
    for body in bodies:
        for status in (200, 400, 401, 404, 429, 500):
            backends.fake.heal()
            backends.fake.plan(times=99, response=Response(status, body))
            for ask in backends.ways():
                with pytest.raises(AssistantError) as caught:
                    ask()
                error = caught.value
                shown = "".join(traceback.format_exception(error)) + repr(error.__dict__)
                assert "canary" not in shown
