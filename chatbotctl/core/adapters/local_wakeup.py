"""Wake-ups inside one process: a timer thread that tells the worker which conversation is due.

Built by wiring. Nothing is kept over a restart: the sweeper finds in the database what was lost.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from chatbotctl.core.records.conversation import Due

#: Wake-ups that may wait at once; beyond it they are dropped, and the sweeper finds their conversations.
MOST_PENDING = 100_000


class LocalWakeup:
    """ports.Wakeup in this process. Without a listener (`simulate`, most commands) wake-ups are dropped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: (monotonic time, what is due then), soonest first.
        self._pending: list[tuple[float, Due]] = []
        self._handler: Callable[[Due], bool] | None = None
        self._closed = False

    def wake(self, *, due: Due, delay: float) -> None:
        """Ask for a conversation to be looked at in `delay` seconds."""
        with self._changed:
            if self._handler is None or self._closed or len(self._pending) >= MOST_PENDING:
                return
            heapq.heappush(self._pending, (time.monotonic() + delay, due))
            self._changed.notify()

    def listen(self, *, handler: Callable[[Due], bool]) -> None:
        """Call `handler(due)` for every wake-up from now on, on one thread; it must return quickly."""
        with self._changed:
            self._handler = handler
        threading.Thread(target=self._run, args=(handler,), name="wakeup", daemon=True).start()

    def close(self) -> None:
        """Stop calling the handler; pending wake-ups are dropped."""
        with self._changed:
            self._closed = True
            self._pending.clear()
            self._changed.notify()

    def _run(self, handler: Callable[[Due], bool]) -> None:
        while (due := self._next()) is not None:
            handler(due)

    def _next(self) -> Due | None:
        """Wait for the next conversation that is due; None when closed."""
        with self._changed:
            while not self._closed:
                if not self._pending:
                    self._changed.wait()
                    continue
                left = self._pending[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._pending)[1]
                self._changed.wait(left)
            return None
