"""Lets a few turns of a process compute at once, whatever the number that wait for the outside.

Python computes on one core. Hundreds of turns whose answers come in together would each take its share of it, and a
webhook would get one share among hundreds for each of its steps: Twilio's fifteen seconds would be over. So a turn goes
through here, and leaves its place to another while it waits for an AI provider, for Twilio or for a translation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Turns that compute at once. Measured (benchmarks/waiting.py): with 1,000 turns the slowest of 200 webhooks a second
#: took 0.5 s with 4, and 3.7 s without any bound.
PLACES = 4
#: Seconds without anybody leaving after which a turn goes on without a place: what holds up those who are inside (a
#: database that hangs, say) must not hold up more than it does anyway.
PATIENCE_SECONDS = 0.25


class Turnstile:
    """Safe to use from many threads; each is inside at most once.

    Arguments:
        places: turns that compute at once.
        patience: seconds that one waits for a place while nobody leaves.
    """

    def __init__(self, places: int = PLACES, patience: float = PATIENCE_SECONDS) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._patience = patience
        #: Times that somebody has left.
        self._left = 0
        self._mine = threading.local()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While the block lasts, this thread is a turn's, and has a place or has waited long enough for one."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """While the block lasts, this thread waits for somebody else. One that is not inside waits for nobody here."""
        if not hasattr(self._mine, "has_place"):
            yield
            return
        self._leave()
        try:
            yield
        finally:
            self._enter()

    def _enter(self) -> None:
        has_place, left = self._places.acquire(blocking=False), -1
        while not has_place and left != self._left:
            left = self._left
            has_place = self._places.acquire(timeout=self._patience)
        self._mine.has_place = has_place

    def _leave(self) -> None:
        self._left += 1  # a count that two threads miss by one tells as much: somebody has left
        if self._mine.has_place:
            self._places.release()
        del self._mine.has_place
