"""A circuit breaker: after a failure, an outside service is not asked again for a while.

Used by the adapters that serve the message's path but may be done without (thread cache, translation), so that a hung
service costs one timeout now and then instead of one for every message. It never calls the service itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Closed until `failed`; then open for `open_seconds`; then one caller probes while the rest still fail at once.

    Arguments:
        open_seconds: how long nobody asks after a failure, and how long a probe may take before the next one.
        clock: monotonic seconds.
    """

    def __init__(self, *, open_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        #: When the next caller may ask; None: closed.
        self._ask_again_at: float | None = None

    def allows(self) -> bool:
        """Whether the caller may ask the service; it then reports `failed` or `succeeded`."""
        with self._lock:
            if self._ask_again_at is None:
                return True
            now = self._clock()
            if now < self._ask_again_at:
                return False
            # This caller is the probe. The date moves on at once, so that a probe that never reports blocks nobody.
            self._ask_again_at = now + self._open_seconds
            return True

    def failed(self, *, open_seconds: float | None = None) -> None:
        """The service did not answer; `open_seconds` replaces the usual pause this once."""
        with self._lock:
            self._ask_again_at = self._clock() + (self._open_seconds if open_seconds is None else open_seconds)

    def succeeded(self) -> None:
        """The service answered: everybody may ask again."""
        with self._lock:
            self._ask_again_at = None

    @property
    def seconds_left(self) -> float:
        """Seconds until somebody may ask again; 0 when anybody may."""
        ask_again_at = self._ask_again_at
        return 0.0 if ask_again_at is None else max(0.0, ask_again_at - self._clock())
