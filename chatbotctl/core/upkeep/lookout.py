"""Asks the database something without waiting for it for ever: used where an answer is owed even when it gives none.

A database that is gone refuses a connection within seconds; one that is frozen keeps whoever asks waiting for good. So
the question is put on a thread of its own, one at a time, and what is asked often is asked once for everybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from chatbotctl.core.errors import ChatbotError, StorageUnavailable

#: Seconds that an answer is waited for: well below the 10 that Prometheus and most load balancers wait for theirs.
PATIENCE_SECONDS = 2.0

T = TypeVar("T")


class Lookout(Generic[T]):
    """One question and the newest answer to it. Safe to share between threads.

    Arguments:
        ask: the question; a ChatbotError that it raises is the answer.
        keep_seconds: an answer as young as that is given again instead of asking. Failures are not kept.
        patience_seconds: how long one caller waits.
    """

    def __init__(
        self, ask: Callable[[], T], *, keep_seconds: float = 0.0, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._ask = ask
        self._keep_seconds = keep_seconds
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._under_way: _Look[T] | None = None
        self._kept: _Look[T] | None = None

    def latest(self) -> T:
        """The answer. Raises what the question raises; StorageUnavailable when it is not answered in time."""
        with self._lock:
            if self._kept is not None and time.monotonic() < self._kept.good_until:
                return self._kept.answer()
            if self._under_way is None:
                self._under_way = _Look()
                # Not a pool's: at its end the process would wait for a thread that waits for the database.
                threading.Thread(target=self._look, args=(self._under_way,), name="lookout", daemon=True).start()
            look = self._under_way
        if not look.ended.wait(self._patience_seconds):
            raise StorageUnavailable(f"The database has not answered within {self._patience_seconds:g} seconds.")
        return look.answer()

    def _look(self, look: _Look[T]) -> None:
        try:
            look.found = [self._ask()]
            look.good_until = time.monotonic() + self._keep_seconds
        except ChatbotError as error:
            look.error = error
        finally:
            with self._lock:
                self._under_way, self._kept = None, look
            look.ended.set()


class _Look(Generic[T]):
    """One asking of the question."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.good_until = 0.0
        #: The answer, once there is one.
        self.found: list[T] = []
        #: Why there is none. As it stands: a fault of our own, which has been reported as the thread's.
        self.error = ChatbotError("The database could not be asked.")

    def answer(self) -> T:
        if not self.found:
            raise self.error
        return self.found[0]
