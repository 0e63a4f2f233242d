"""How often an outside service is tried: as often as is safe, within the deadline, and as long apart as it asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from chatbotctl.core.errors import OutsideError
from chatbotctl.core.flow.retry_policy import PutOff, RetryPolicy

BUSY = OutsideError("busy", reason="429", retryable=True)
NEVER = OutsideError("never", reason="401")


def script(*answers: OutsideError | str) -> tuple[Callable[[float], str], list[float]]:
    """A service that gives these answers in order, and the seconds that each attempt was allowed."""
    left: list[float] = []

    def attempt(seconds: float) -> str:
        answer = answers[min(len(left), len(answers) - 1)]
        left.append(seconds)
        if isinstance(answer, OutsideError):
            raise answer
        return answer

    return attempt, left


def policy(attempts: int = 3, deadline: float = 30.0) -> RetryPolicy:
    return RetryPolicy(attempts=attempts, deadline=deadline, backoff=0.01)


@pytest.mark.parametrize(("attempt", "whole"), [(1, 5.0), (2, 10.0), (3, 20.0), (7, 300.0), (2000, 300.0)])
def test_backoff_doubles_up_to_its_longest_and_no_two_are_the_same(attempt: int, whole: float) -> None:
    waits = {PutOff(first=5.0, longest=300.0).backoff(attempt) for _ in range(50)}

    assert all(whole / 2 <= wait <= whole for wait in waits)
    assert len(waits) > 1, "what failed together comes back one after the other"


def test_service_gets_the_pause_that_it_asks_for_up_to_an_hour() -> None:
    later = PutOff(first=5.0, longest=300.0)

    assert (later.asked(120.0), later.asked(86_400.0)) == (120.0, 3600.0)


def test_success_is_not_tried_again() -> None:
    attempt, tries = script("done")

    assert policy().run(attempt) == "done"
    assert len(tries) == 1


def test_passing_failure_is_tried_again_and_every_failure_is_told() -> None:
    attempt, tries = script(BUSY, BUSY, "done")
    told: list[OutsideError] = []

    assert policy().run(attempt, on_failure=told.append) == "done"
    assert (len(tries), told) == (3, [BUSY, BUSY])


def test_each_further_attempt_is_told_and_the_first_is_none() -> None:
    told: list[int] = []
    for answers in (("done",), (BUSY, BUSY, "done"), (NEVER,)):
        attempt, tries = script(*answers)
        counting = RetryPolicy(
            attempts=3, deadline=30, backoff=0.01, on_retry=lambda tries=tries: told.append(len(tries))
        )
        with suppress(OutsideError):
            counting.run(attempt)
    assert told == [1, 2], "before the second and the third attempt of the one that needed them"


def test_last_failure_is_raised_when_the_attempts_are_used_up() -> None:
    last = OutsideError("last", retryable=True)
    attempt, tries = script(BUSY, last)
    told: list[OutsideError] = []

    with pytest.raises(OutsideError) as caught:
        policy(attempts=2).run(attempt, on_failure=told.append)

    assert caught.value is last
    assert told == [BUSY, last]
    assert len(tries) == 2


def test_hopeless_failure_is_raised_at_once() -> None:
    attempt, tries = script(NEVER, "done")

    with pytest.raises(OutsideError, match="never"):
        policy().run(attempt)
    assert len(tries) == 1


def test_fault_of_our_own_is_no_outside_failure() -> None:
    tries = []

    def attempt(_: float) -> str:
        tries.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        policy().run(attempt)
    assert len(tries) == 1


def test_wait_that_is_asked_for_is_kept() -> None:
    attempt, tries = script(OutsideError("slow", retryable=True, retry_after=0.3), "done")
    began = time.monotonic()

    assert policy().run(attempt) == "done"
    assert len(tries) == 2
    assert time.monotonic() - began >= 0.3


def test_no_wait_at_all_can_be_asked_for() -> None:
    attempt, tries = script(OutsideError("slow", retryable=True, retry_after=0.0), "done")

    assert RetryPolicy(attempts=2, deadline=30, backoff=600, longest_backoff=600).run(attempt) == "done"
    assert len(tries) == 2


def test_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    attempt, tries = script(OutsideError("slow", retryable=True, retry_after=3600.0), "done")

    with pytest.raises(OutsideError, match="slow"):
        policy().run(attempt)
    assert len(tries) == 1


def test_each_attempt_is_allowed_what_is_left_of_the_deadline() -> None:
    attempt, left = script(BUSY, BUSY, "done")

    policy(deadline=600).run(attempt)

    assert left == sorted(left, reverse=True)
    assert all(500 < seconds <= 600 for seconds in left)


def test_attempt_that_could_not_be_worth_it_is_not_begun() -> None:
    attempt, tries = script(BUSY, "done")

    with pytest.raises(OutsideError, match="busy"):
        policy(deadline=0.3).run(attempt)
    assert tries == [0.5], "less than half a second is no attempt"


def test_calls_of_one_policy_share_its_deadline() -> None:
    first_call_took = 20.0
    shared = RetryPolicy(attempts=3, deadline=30, backoff=0.01, started=time.monotonic() - first_call_took)
    attempt, left = script("done")

    shared.run(attempt)

    assert left[0] <= 10.0
