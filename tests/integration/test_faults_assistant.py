"""The table of what an AI provider can do wrong, and what comes of each: every row holds for every backend it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatbotctl.core.config import Key
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.openai_wire import refusal
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business
from tests.integration.fault_tables import SUCCESS, bring_to_its_end, fault_site, named

#: Backend -> how a business is set up for it, and the end of the path that asks.
BACKENDS: dict[str, tuple[dict[str, str], str]] = {
    "openai": ({}, "/v1/responses"),
    "openai-local": ({"history": "local"}, "/v1/responses"),
    "chat": ({"backend": "chat"}, "/v1/chat/completions"),
    "threads": ({"backend": "threads", "assistant_id": "asst_1"}, "/runs"),
}
EVERY = tuple(BACKENDS)
ATTEMPTS = 2
FLAGS: dict[Key, object] = {("openai", "attempts"): ATTEMPTS}
#: Nobody is waited for: what takes 30 seconds in earnest.
NEVER_HEARD: dict[Key, object] = {("openai", "timeout_seconds"): 0.3, ("openai", "turn_deadline_seconds"): 3.0}
#: A good answer is heard in time on any machine, and one of "60 seconds" is not.
HEARD: dict[Key, object] = {("openai", "timeout_seconds"): 1.0, ("openai", "turn_deadline_seconds"): 10.0}
REPLY, APOLOGY = "You said: Hello", "Sorry, later."

SLOW_DOWN = refusal(429, "slow", code="rate_limit_exceeded")
SPENT = refusal(429, "spent", code="insufficient_quota")
LOCKED = refusal(400, "busy", code="conversation_locked")


def waiting(response: Response, seconds: str) -> Response:
    return Response(response.status, response.body, {"Retry-After": seconds})


@dataclass(frozen=True)
class Row:
    """A fault; how often the provider is then asked; what the customer reads; what the caller is told."""

    name: str
    #: What every request that asks meets, `times` times.
    fault: dict[str, Any] | None = None
    #: Or how the next `times` answers, HTTP 200 all of them, are spoilt: kind and code.
    spoilt: tuple[str, str] | None = None
    times: int = 1
    asked: int = ATTEMPTS
    reads: str = REPLY
    backends: tuple[str, ...] = EVERY
    flags: dict[Key, object] | None = None

    @property
    def answered(self) -> str:
        return SUCCESS if self.reads == REPLY else "assistant_failed"


def passing(name: str, response: Response, **more: Any) -> Row:
    """It is over at the second attempt."""
    return Row(name, {"response": response}, **more)


def lasting(name: str, response: Response, **more: Any) -> Row:
    """It outlasts every attempt."""
    return Row(name, {"response": response}, times=99, reads=APOLOGY, **more)


def hopeless(name: str, response: Response, **more: Any) -> Row:
    """Another attempt would be in vain, or would come too late."""
    return lasting(name, response, asked=1, **more)


TABLE = [
    # the provider refuses
    passing("429 for a moment", SLOW_DOWN),
    passing("429 with a short Retry-After", waiting(SLOW_DOWN, "0")),
    lasting("429 for long", SLOW_DOWN),
    hopeless("429 with a Retry-After beyond the deadline", waiting(SLOW_DOWN, "3600")),
    hopeless("insufficient_quota", SPENT),
    hopeless("401", refusal(401, "no", code="invalid_api_key")),
    hopeless("403", refusal(403, "no")),
    hopeless("400", refusal(400, "no")),
    passing("409", refusal(409, "no")),
    passing("500 for a moment", refusal(500, "no")),
    lasting("500 for long", refusal(500, "no")),
    passing("503 for a moment", refusal(503, "no")),
    passing("conversation_locked for a moment", LOCKED, backends=("openai",)),
    hopeless("conversation_locked beyond the deadline", waiting(LOCKED, "3600"), backends=("openai",)),
    passing(
        "another run is active for a moment",
        refusal(400, "Thread thread_1 already has an active run run_1."),
        backends=("threads",),
    ),
    # the connection fails
    Row("connection cut", {"cut": True}),
    Row("connection cut every time", {"cut": True}, times=99, reads=APOLOGY),
    Row("timeout once", {"delay": 600}, flags=HEARD),
    Row("never an answer", {"delay": 600}, times=99, reads=APOLOGY, flags=NEVER_HEARD),
    # the provider answers 200, and it is no answer
    Row("failed once", spoilt=("failed", "server_error")),
    Row("failed every time", spoilt=("failed", "server_error"), times=99, reads=APOLOGY),
    Row(
        "failed for good", spoilt=("failed", "invalid_prompt"), times=99, asked=1, reads=APOLOGY,
        backends=("openai", "openai-local", "threads"),
    ),
    Row("incomplete once", spoilt=("incomplete", "")),
    Row("incomplete every time", spoilt=("incomplete", ""), times=99, reads=APOLOGY),
    Row("stopped by the content filter", spoilt=("incomplete", "content_filter"), times=99, asked=1, reads=APOLOGY,
        backends=("openai", "openai-local", "chat")),
    Row("refusal", spoilt=("refusal", ""), times=99, asked=1, reads=APOLOGY),
    Row("empty once", spoilt=("empty", "")),
    Row("empty every time", spoilt=("empty", ""), times=99, reads=APOLOGY),
    Row("junk once", spoilt=("junk", "")),
    Row("junk every time", spoilt=("junk", ""), times=99, reads=APOLOGY),
    Row("run that never ends", spoilt=("stuck", ""), times=99, reads=APOLOGY, backends=("threads",), flags=NEVER_HEARD),
    Row("run that waits for a tool", spoilt=("requires_action", ""), times=99, asked=1, reads=APOLOGY,
        backends=("threads",)),
]  # fmt: skip


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    fake_openai.threads.polls = 1
    return Vendors(openai=fake_openai, twilio=fake_twilio)


@pytest.mark.parametrize(
    ("row", "backend"),
    [pytest.param(row, backend, id=f"{named(row.name)}-{backend}") for row in TABLE for backend in row.backends],
)
def test_fault_of_the_provider(
    row: Row, backend: str, vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    values, path = BACKENDS[backend]
    if row.fault is not None:
        fake_openai.plan(path, method="POST", times=row.times, **row.fault)
    if row.spoilt is not None:
        fake_openai.plan_answer(row.spoilt[0], code=row.spoilt[1], times=row.times)
    with fault_site(vendors, tmp_path, {**FLAGS, **(row.flags or {})}) as core:
        add_business(core, apology=APOLOGY, **values)

        became = bring_to_its_end(core)

    assert times_asked(fake_openai, path) == row.asked
    assert fake_twilio.sent() == [row.reads]
    assert len(fake_twilio.seen("Messages", "POST")) == 1
    assert became.answered == (row.answered, row.answered), "a copy is told what the first was"
    assert became.turn == (("done", None) if row.reads == REPLY else ("dead", "assistant_failed"))
    assert (became.parts, became.put_off) == (("sent",), 0)


@pytest.mark.parametrize(
    ("backend", "thought", "reads"),
    [
        # The provider goes on thinking and keeps the answer: it is found there, and nothing is asked twice.
        ("openai", 1, REPLY),
        # Nothing is kept anywhere: each attempt is a new question, and none is waited for long enough.
        ("openai-local", ATTEMPTS, APOLOGY),
        ("chat", ATTEMPTS, APOLOGY),
        # A run that is not waited for is cancelled, or it would block the thread.
        ("threads", ATTEMPTS, APOLOGY),
    ],
)
def test_answers_that_take_longer_than_one_attempt_may(
    backend: str,
    thought: int,
    reads: str,
    vendors: Vendors,
    tmp_path: Path,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
) -> None:
    if backend == "threads":
        fake_openai.threads.polls = 99
    else:
        # Between two of the looks that the backoff makes, whatever its jitter.
        fake_openai.thinking = 2.5
    with fault_site(vendors, tmp_path, {**FLAGS, **HEARD}) as core:
        add_business(core, apology=APOLOGY, **BACKENDS[backend][0])

        became = bring_to_its_end(core)

    assert len(fake_openai.asked) == thought
    assert fake_twilio.sent() == [reads]
    assert became.answered[0] == became.answered[1] == (SUCCESS if reads == REPLY else "assistant_failed")
    assert became.turn[0] == ("done" if reads == REPLY else "dead")
    assert {run.status for run in fake_openai.threads.runs} <= {"cancelled"}


Plan = Callable[[FakeOpenAI], None]


def cannot_be_made(response: Response, *, times: int = 99) -> Plan:
    """The provider makes no conversation or thread to ask in."""

    def plan(fake: FakeOpenAI) -> None:
        fake.plan("/v1/conversations", method="POST", times=times, response=response)
        fake.plan("/v1/threads", method="POST", times=times, response=response)

    return plan


@pytest.mark.parametrize("backend", ["openai", "threads"])
@pytest.mark.parametrize(
    ("plan", "tried", "asked", "reads"),
    [
        (cannot_be_made(SLOW_DOWN, times=1), 2, 1, REPLY),
        (cannot_be_made(refusal(500, "no"), times=1), 2, 1, REPLY),
        (cannot_be_made(refusal(500, "no")), ATTEMPTS, 0, APOLOGY),
        (cannot_be_made(SPENT), 1, 0, APOLOGY),
    ],
    ids=["429-once", "500-once", "500-every-time", "insufficient_quota"],
)
def test_fault_while_the_conversation_is_made(
    backend: str,
    plan: Plan,
    tried: int,
    asked: int,
    reads: str,
    vendors: Vendors,
    tmp_path: Path,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
) -> None:
    plan(fake_openai)
    values, path = BACKENDS[backend]
    with fault_site(vendors, tmp_path, FLAGS) as core:
        add_business(core, apology=APOLOGY, **values)

        became = bring_to_its_end(core)

    made = [
        request for request in fake_openai.seen(method="POST") if request.path.endswith(("conversations", "threads"))
    ]
    assert len(made) == tried
    assert times_asked(fake_openai, path) == asked
    assert fake_twilio.sent() == [reads]
    assert became.turn[0] == ("done" if reads == REPLY else "dead")


def times_asked(fake: FakeOpenAI, path: str) -> int:
    """How often the provider was asked, heard or not."""
    return sum(request.path.endswith(path) for request in fake.seen(method="POST"))
