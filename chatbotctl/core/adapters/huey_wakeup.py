"""Wake-ups between processes: by Redis, with Huey. Built by wiring where there is a Redis.

A process's own worker comes first: only what it has no room for goes through Redis, to whichever worker takes it.
Delays are waited out in the process that asked, so they are exact. Whatever Redis does, nobody waits for it and nothing
raises: what cannot be handed on is dropped, and the sweepers find it within `worker.sweep_seconds`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from chatbotctl.core.adapters.breaker import Breaker
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from chatbotctl.core.adapters.redis_client import outside_error, redis_errors
from chatbotctl.core.log import event
from chatbotctl.core.records.conversation import Due

if TYPE_CHECKING:
    from chatbotctl.core.adapters.huey_queue import WakeupQueue

#: Wake-ups that may wait for Redis here; beyond it they are dropped.
MOST_OUTGOING = 10_000
#: Seconds that nobody asks an unreachable Redis again.
PAUSE_SECONDS = 2.0
#: Seconds that a worker without room lets others take wake-ups first.
FULL_SECONDS = 0.05

Side = Literal["put", "take"]


class HueyWakeup:
    """ports.Wakeup over Redis. Nothing connects, and no thread starts, before the first wake-up or `listen`.

    Arguments:
        url: as RedisCache takes it.
        timeout_seconds: for connecting, and again for each wait on an answer.
        install: tells this install's wake-ups from those of others that share the Redis.
    """

    def __init__(self, url: str, timeout_seconds: float, *, install: str) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._name = f"chatbotctl_{install}"
        self._timer = LocalWakeup()
        self._outgoing: queue.Queue[Due | None] = queue.Queue(MOST_OUTGOING)
        self._breaker = Breaker(open_seconds=PAUSE_SECONDS)
        self._link = _Link()
        self._lock = threading.Lock()
        self._queue: WakeupQueue | None = None
        self._handler: Callable[[Due], bool] | None = None
        self._sender: threading.Thread | None = None
        self._closed = False

    def wake(self, *, due: Due, delay: float) -> None:
        """Ask for a conversation to be looked at in `delay` seconds, here or by another process."""
        with self._lock:
            if self._closed:
                return
            self._start()
            if delay > 0 or self._handler is not None:
                self._timer.wake(due=due, delay=delay)
                return
        # Nobody works here: a command that ends at once must not take it along.
        self._send(due)

    def listen(self, *, handler: Callable[[Due], bool]) -> None:
        """Call `handler(due)` for every wake-up from now on, this process's own and others'; it must return quickly."""
        with self._lock:
            self._handler = handler
            self._start()
        try:
            self._wakeups().consume(self._taken)
        except redis_errors() as exc:
            self._link.lost("take", exc)

    def close(self) -> None:
        """Stop calling the handler. What is due already is handed on to others first, if Redis takes it."""
        with self._lock:
            self._closed = True
            sender, wakeups = self._sender, self._queue
        self._timer.close()
        if wakeups is not None:
            wakeups.stop()
        if sender is not None:
            with suppress(queue.Full):
                self._outgoing.put_nowait(None)
            # One attempt: to connect, and to be answered. After a failed one the breaker lets the rest go at once.
            sender.join(2 * self._timeout_seconds)
        if wakeups is not None:
            wakeups.close()

    def _start(self) -> None:
        """Start the threads, once. Under the lock."""
        if self._sender is None:
            self._timer.listen(handler=self._hand_over)
            self._sender = threading.Thread(target=self._send_on, name="wakeup-sender", daemon=True)
            self._sender.start()

    def _hand_over(self, due: Due) -> bool:
        """On the timer's thread: our own worker first."""
        if self._handler is None or not self._handler(due):
            self._send(due)
        return True

    def _taken(self, due: Due, passed_on: bool) -> None:
        """On a taker's thread: a wake-up came out of Redis.

        One that finds no room here goes back once, since another worker may well have some: that is a round trip,
        where the sweepers would need a second. Not twice: with every worker full it would go round for nothing.
        """
        if self._closed:
            self._put(due, passed_on=passed_on)
        elif self._handler is not None and not self._handler(due):
            if not passed_on:
                self._put(due, passed_on=True)
            self._wakeups().pause(FULL_SECONDS)

    def _send(self, due: Due) -> None:
        with suppress(queue.Full):
            self._outgoing.put_nowait(due)

    def _send_on(self) -> None:
        while (due := self._outgoing.get()) is not None:
            self._put(due)

    def _put(self, due: Due, *, passed_on: bool = False) -> None:
        if not self._breaker.allows():
            return
        try:
            self._wakeups().put(due, passed_on=passed_on)
        except redis_errors() as exc:
            self._breaker.failed()
            self._link.lost("put", exc)
        else:
            self._breaker.succeeded()
            self._link.works("put")

    def _wakeups(self) -> WakeupQueue:
        from chatbotctl.core.adapters.huey_queue import WakeupQueue

        with self._lock:
            if self._queue is None:
                self._queue = WakeupQueue(
                    self._url,
                    self._timeout_seconds,
                    name=self._name,
                    on_error=lambda exc: self._link.lost("take", exc),
                    on_success=lambda: self._link.works("take"),
                )
            return self._queue


class _Link:
    """Says once that wake-ups do not get through Redis, and once that they do again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: What does not work -> whether Redis is there and refuses it.
        self._lost: dict[Side, bool] = {}

    def lost(self, side: Side, error: Exception) -> None:
        """Redis did not do it."""
        known = outside_error(error)
        with self._lock:
            is_news = not self._lost
            self._lost[side] = not known.retryable
        if is_news:
            event("wakeups_lost", level="warning", reason=known.reason)

    def works(self, side: Side) -> None:
        """Redis did it. When it answers one side, the other's silence is over too; a refusal is not."""
        if not self._lost:
            return
        with self._lock:
            before = self._lost
            self._lost = {other: refused for other, refused in before.items() if refused and other != side}
            is_news = bool(before) and not self._lost
        if is_news:
            event("wakeups_back")
