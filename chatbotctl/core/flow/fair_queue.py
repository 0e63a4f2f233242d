"""Which conversation gets the next free thread: businesses take turns, and none takes up more than its share.

One worker's own; not safe for threads by itself (the worker holds its lock). A flood to one business fills that
business's part of the queue and nothing else.
"""

from __future__ import annotations

from collections import deque

from chatbotctl.core.records.conversation import Due

#: What waits for a thread, as a multiple of the threads: enough to keep them busy from one sweep to the next.
WAITING_PER_THREAD = 2


class FairQueue:
    """Conversations that wait, and how many run, business by business.

    Arguments:
        threads: how many may run at once.
        share: the part of them that one business may take up.
    """

    def __init__(self, *, threads: int, share: float) -> None:
        self._threads = threads
        self._most_running = max(1, int(threads * share))
        self._most_waiting = WAITING_PER_THREAD * threads
        #: Business -> its conversations that wait. The first in the dict is served next.
        self._waiting: dict[int, deque[Due]] = {}
        #: Business -> its conversations that run.
        self._running: dict[int, int] = {}
        self._runs = 0

    def add(self, due: Due) -> bool:
        """Let a conversation wait; False when as many of its business wait as may."""
        waiting = self._waiting.setdefault(due.business_id, deque())
        if len(waiting) >= self._most_waiting:
            return False
        waiting.append(due)
        return True

    def take(self) -> Due | None:
        """The conversation that runs next, which counts as running from now on; None: no thread, or nothing to run."""
        if self._runs >= self._threads:
            return None
        served = (business for business in self._waiting if self._running.get(business, 0) < self._most_running)
        business_id = next(served, None)
        if business_id is None:
            return None
        waiting = self._waiting.pop(business_id)
        due = waiting.popleft()
        if waiting:
            # To the end of the line.
            self._waiting[business_id] = waiting
        self._running[business_id] = self._running.get(business_id, 0) + 1
        self._runs += 1
        return due

    def done(self, due: Due) -> None:
        """A conversation that ran does not any more."""
        self._runs -= 1
        self._running[due.business_id] -= 1
        if not self._running[due.business_id]:
            del self._running[due.business_id]

    def clear(self) -> list[Due]:
        """Forget what waits, and return it."""
        waited = [due for waiting in self._waiting.values() for due in waiting]
        self._waiting.clear()
        return waited

    @property
    def is_low(self) -> bool:
        """Whether so few wait that the threads may soon have nothing to do."""
        return sum(map(len, self._waiting.values())) < self._threads

    @property
    def full(self) -> frozenset[int]:
        """The businesses of which no more may wait."""
        return frozenset(business for business, waiting in self._waiting.items() if len(waiting) >= self._most_waiting)

    @property
    def room(self) -> int:
        """How many a look into the database should bring: what the threads can begin soon."""
        return self._most_waiting
