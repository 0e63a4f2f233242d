"""How often and how long an outside service is tried: one policy object per service, one place that retries.

Adapters never retry by themselves; they say in their error whether another attempt is safe. RetryPolicy is for attempts
in a row (ask_assistant, send_part), PutOff for what comes back later (settle for turns, slack_poster for posts).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from chatbotctl.core.errors import OutsideError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PutOff:
    """When what was put off in the database is taken up again, by whatever process is there then."""

    #: Seconds after the first attempt; doubled with each, up to `longest`.
    first: float
    longest: float
    #: Longest wait, in seconds, that a service may ask for (Retry-After).
    longest_asked: float = 3600.0

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed.

        Half of them at least and the rest at random, so that what failed together does not come back together.
        """
        # Far beyond any `longest`, and far below where a float overflows.
        whole: float = min(self.first * 2 ** min(attempt - 1, 30), self.longest)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def asked(self, seconds: float) -> float:
        """Seconds to wait where the service asked for `seconds`."""
        return min(seconds, self.longest_asked)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Attempts with exponential backoff and jitter inside a deadline, which counts from when the policy is made.

    One policy may run several calls one after the other: each has its own attempts, and all share the deadline.
    """

    #: Attempts at most, the first included.
    attempts: int
    #: Seconds for all attempts of all calls and the waits between them.
    deadline: float
    #: Seconds before the second attempt; doubled each time, with up to as much again at random.
    backoff: float = 0.25
    #: Longest wait between attempts in seconds, unless the service asks for more (Retry-After).
    longest_backoff: float = 5.0
    #: Seconds below which a new attempt is not worth starting.
    least_attempt: float = 0.5
    #: Told of every attempt but a call's first, right before it is made.
    on_retry: Callable[[], None] | None = None
    #: Monotonic time at which the deadline began to count.
    started: float = field(default_factory=time.monotonic)

    def run(self, attempt: Callable[[float], T], *, on_failure: Callable[[OutsideError], None] | None = None) -> T:
        """Call `attempt(seconds_left)` until it succeeds or must not be tried again.

        Arguments:
            on_failure: told of every failed attempt, the last included.

        Raises the last OutsideError.
        """
        import stamina

        end = self.started + self.deadline
        made = 0

        def another(error: Exception) -> bool | float:
            nonlocal made
            if not isinstance(error, OutsideError):
                return False
            if on_failure is not None:
                on_failure(error)
            # To wait for an earlier call of our own to end is no attempt.
            made += not error.still_busy
            left = end - time.monotonic() - self.least_attempt
            wait = error.retry_after
            if not error.retryable or made >= self.attempts or left <= 0 or (wait is not None and wait > left):
                return False
            return True if wait is None else wait

        # Retries are logged by `on_failure`; stamina's own hooks would log the callable's arguments.
        stamina.instrumentation.set_on_retry_hooks(())
        tries = stamina.retry_context(
            on=another,
            attempts=None,
            timeout=max(self.least_attempt, end - time.monotonic()),
            wait_initial=self.backoff,
            wait_max=self.longest_backoff,
            wait_jitter=self.backoff,
        )
        for number in tries:
            if number.num > 1 and self.on_retry is not None:
                self.on_retry()
            with number:
                return attempt(max(self.least_attempt, end - time.monotonic()))
        raise AssertionError("stamina either returns or raises")
