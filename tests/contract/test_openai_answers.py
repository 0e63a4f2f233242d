"""What comes back with HTTP 200: answers, what only looks like one, and every end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chatbotctl.core.errors import AssistantError
from chatbotctl.core.records.assistant import Usage
from tests.contract.openai_backends import PRIVATE, Backends, error_body, open_backends
from tests.fakes.loopback import Response


@pytest.fixture
def backends() -> Iterator[Backends]:
    with open_backends() as backends:
        yield backends


# HTTP 200 that is no answer


@pytest.mark.parametrize(
    ("kind", "code", "reason", "retryable"),
    [
        ("failed", "server_error", "server_error", True),
        ("failed", "rate_limit_exceeded", "rate_limit_exceeded", True),
        ("failed", "vector_store_timeout", "vector_store_timeout", True),
        ("failed", "invalid_prompt", "invalid_prompt", False),
        ("incomplete", "max_output_tokens", "max_output_tokens", True),
        ("incomplete", "content_filter", "content_filter", False),
    ],
)
def test_a_response_that_ended_badly(backends: Backends, kind: str, code: str, reason: str, retryable: bool) -> None:
    backends.fake.plan_answer(kind, code=code)
    error = backends.failure()
    assert (error.reason, error.retryable) == (reason, retryable)


@pytest.mark.parametrize(
    ("code", "reason", "retryable"), [("max_tokens", "length", True), ("content_filter", "content_filter", False)]
)
def test_a_completion_that_ended_badly(backends: Backends, code: str, reason: str, retryable: bool) -> None:
    backends.fake.plan_answer("incomplete", code=code)
    with pytest.raises(AssistantError) as caught:
        backends.chat.ask(question=backends.question("local_1"))
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


JUNK: list[Any] = [
    b"",
    b"{",
    b"null",
    b"42",
    b'"text"',
    b"[]",
    b"\xff\xfe",
    {},
    {"id": 5, "status": "completed", "output": None},
    {"status": "completed", "output": [None, 1, "x", {"type": "message", "content": None}]},
    {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": 5}]}]},
    {"status": "completed", "output": {"type": "message"}},
    {"status": 7, "output": []},
    {"choices": "none"},
    {"choices": [None]},
    {"choices": [{"message": {"content": 5}}]},
    {"choices": [{"message": {"content": ["a"]}}]},
    {"id": None, "status": {"a": 1}, "data": None},
]


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_junk_is_an_error_like_any_other(backends: Backends, junk: Any, content_type: str) -> None:
    backends.fake.plan(times=99, response=Response(200, junk, {"Content-Type": content_type}))
    for ask in backends.ways():
        with pytest.raises(AssistantError) as caught:
            ask()
        assert caught.value.reason in ("unreadable", "empty")
        assert caught.value.retryable


def test_a_model_that_thinks_aloud_is_read_to_its_final_answer(backends: Backends) -> None:
    output = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        _message("Let me look that up.", phase="commentary"),
        {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["hours"]},
        _message("Nine to five", ", every day."),
        _message("Closed on Sunday. \n"),
    ]
    backends.fake.plan("/responses", response=Response(200, {"id": "resp_1", "status": "completed", "output": output}))
    answer = backends.ask()
    assert answer.text == "Nine to five, every day.\n\nClosed on Sunday."
    assert (answer.response_id, answer.model, answer.usage) == ("resp_1", None, Usage())


def _message(*texts: str, phase: str = "final_answer") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "phase": phase, "content": content}


# runs


@pytest.mark.parametrize(
    ("kind", "code", "reason", "retryable"),
    [
        ("failed", "server_error", "server_error", True),
        ("failed", "rate_limit_exceeded", "rate_limit_exceeded", True),
        ("failed", "invalid_prompt", "invalid_prompt", False),
        ("expired", "", "expired", True),
        ("cancelled", "", "cancelled", False),
        ("incomplete", "max_prompt_tokens", "max_prompt_tokens", True),
        ("requires_action", "", "requires_action", False),
    ],
)
def test_every_end_of_a_run_ends_the_wait(
    backends: Backends, kind: str, code: str, reason: str, retryable: bool
) -> None:
    backends.fake.plan_answer(kind, code=code)
    error = backends.run_failure()
    assert (error.reason, error.retryable) == (reason, retryable)


def test_a_run_that_never_ends_is_given_up_and_cancelled(backends: Backends) -> None:
    backends.fake.plan_answer("stuck")
    error = backends.run_failure(timeout=0.6)
    assert (error.reason, error.retryable, error.unknown_outcome) == ("timeout", True, True)
    assert [run.status for run in backends.fake.threads.runs] == ["cancelled"]


def test_a_run_that_waits_for_a_tool_does_not_block_the_thread(backends: Backends) -> None:
    backends.fake.plan_answer("requires_action")
    backends.run_failure()
    assert [run.status for run in backends.fake.threads.runs] == ["cancelled"]


def test_a_run_is_looked_at_until_it_ends(backends: Backends) -> None:
    backends.fake.threads.polls = 3
    handle = backends.thread()
    assert backends.threads.ask(question=backends.question(handle)).text == f"You said: {PRIVATE}"
    assert len(backends.fake.seen("/runs/", "GET")) == 3


def test_one_look_that_fails_does_not_lose_the_run(backends: Backends) -> None:
    handle = backends.thread()
    backends.fake.plan("/runs/", method="GET", response=Response(503, error_body()))
    assert backends.threads.ask(question=backends.question(handle)).text == f"You said: {PRIVATE}"
    assert len(backends.fake.asked) == 1


def test_a_thread_whose_last_run_still_goes_on_is_worth_asking_again(backends: Backends) -> None:
    handle = backends.thread()
    backends.fake.plan_answer("stuck")
    backends.fake.plan("/cancel", response=Response(500, error_body()))
    with pytest.raises(AssistantError):
        backends.threads.ask(question=backends.question(handle, timeout=0.4))
    with pytest.raises(AssistantError) as caught:
        backends.threads.ask(question=backends.question(handle))
    assert (caught.value.reason, caught.value.retryable) == ("run_active", True)


def test_the_old_api_gives_no_warnings(backends: Backends, recwarn: pytest.WarningsRecorder) -> None:
    backends.threads.ask(question=backends.question(backends.thread()))
    assert [str(warning.message) for warning in recwarn] == []
