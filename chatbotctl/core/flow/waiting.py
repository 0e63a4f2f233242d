"""Requests that wait for what becomes of their message, in this process. The database knows what; this says when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Waiters:
    """Wakes whoever waits for a conversation whenever one of its turns has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, list[threading.Event]] = {}
        #: The process is about to end: whoever waits takes what is known.
        self.stopped = False

    @contextmanager
    def waiting_for(self, conversation_id: int) -> Iterator[threading.Event]:
        """An Event that `ended` sets. Enter first, then look into the database, then wait: so nothing is missed."""
        ended = threading.Event()
        with self._lock:
            self._waiting.setdefault(conversation_id, []).append(ended)
        try:
            yield ended
        finally:
            with self._lock:
                remaining = self._waiting[conversation_id]
                remaining.remove(ended)
                if not remaining:
                    del self._waiting[conversation_id]

    def ended(self, conversation_id: int) -> None:
        """A turn of this conversation has ended."""
        with self._lock:
            for event in self._waiting.get(conversation_id, ()):
                event.set()

    def stop(self) -> None:
        """Nobody waits any longer, now or later."""
        with self._lock:
            self.stopped = True
            for events in self._waiting.values():
                for event in events:
                    event.set()
