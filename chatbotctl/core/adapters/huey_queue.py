"""The queue of wake-ups in Redis, by Huey, and the consumer that takes them out of it inside our process.

Imported by huey_wakeup on first use. What is used of Huey: its Redis storage (a list with blocking pops, so that one
process gets each wake-up), its tasks, and its consumer's threads, which outlive any fault. What is not, and why:

- pickle, its way to write tasks down: whoever may write to that Redis would run code here. A wake-up is three numbers.
- its scheduler and its periodic tasks: they look once a second and once a minute. Delays are a timer's in the process
  that has them (huey_wakeup), and the sweeper asks the database directly, since it is there for when Redis is not.
- results, retries and revocation: three more round trips for each wake-up, and a lost one is found by the sweeper.
- its signal handlers: signals are for `serve` and `worker`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

from huey.api import Huey
from huey.consumer import Consumer, Scheduler
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import RedisStorage

from chatbotctl.core.adapters.redis_client import make_client, redis_errors
from chatbotctl.core.log import event
from chatbotctl.core.records.conversation import Due

#: Wake-ups that Redis keeps at most, the newest: some seconds' worth, in 200 KB. An older one is worth nothing, because
#: every worker's sweeper has looked since.
MOST_QUEUED = 5_000
#: Seconds after the last wake-up in which the queue is forgotten when nobody takes from it.
FORGOTTEN_SECONDS = 60
#: Threads that take wake-ups: one waits while the other hands over, which takes microseconds.
TAKERS = 2
#: Seconds that a taker waits in Redis at a time, and so the longest that one outlives `stop`.
WAIT_SECONDS = 1
#: Seconds before a taker asks a Redis again that did not answer.
PAUSE_SECONDS = 0.5
#: Seconds between reports of entries that are no wake-ups.
REPORT_SECONDS = 60.0
#: Bytes of the longest wake-up: three numbers of up to 19 digits, with brackets and commas.
LONGEST = 64

_TASK = f"{__name__}.wake"

#: `taken(due, passed_on)`: what is done with a wake-up; `passed_on`: another process had no room for it already.
Taken = Callable[[Due, bool], None]


class NotAWakeup(Exception):
    """An entry of the queue is none of ours."""


class WakeupQueue:
    """One install's queue. Safe to call from many threads; connects on first use.

    Arguments:
        url: as RedisCache takes it.
        timeout_seconds: for connecting, and again for an answer.
        name: the queue's, the same in all processes of an install and in no other install.
        on_error: called, on a taker's thread, with what Redis did not do.
        on_success: called, on a taker's thread, whenever Redis answered.

    Raises one of redis_errors for an impossible URL.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        *,
        name: str,
        on_error: Callable[[Exception], None],
        on_success: Callable[[], None],
    ) -> None:
        self._huey = _Huey(
            name,
            storage_class=_Storage,
            serializer=_Numbers(),
            results=False,
            url=url,
            timeout_seconds=timeout_seconds,
        )
        self._huey.on_error, self._huey.on_success = on_error, on_success
        self._task = self._huey.task(name="wake")(self._take)
        self._taken: Taken | None = None
        self._consumer: Consumer | None = None

    def put(self, due: Due, *, passed_on: bool = False) -> None:
        """Add a wake-up. Raises one of redis_errors."""
        self._huey.enqueue(self._task.s(due.conversation_id, due.business_id, int(passed_on)))

    def consume(self, taken: Taken) -> None:
        """Call `taken` for every wake-up from now on, on threads of the queue's own; returns at once."""
        self._taken = taken
        self._consumer = _Consumer(self._huey, workers=TAKERS, periodic=False)
        self._huey.stop_flag = self._consumer.stop_flag
        self._consumer.start()

    def stop(self) -> None:
        """Take nothing more; returns at once. A thread that waits in Redis ends within WAIT_SECONDS."""
        if self._consumer is not None:
            self._consumer.stop()

    def pause(self, seconds: float) -> None:
        """Hold this taker up for so long, or until `stop`."""
        if self._consumer is not None:
            self._consumer.stop_flag.wait(seconds)

    def close(self) -> None:
        """Close the connections that nobody uses; the others close when their threads end."""
        self._huey.storage.close()

    def _take(self, conversation_id: int, business_id: int, passed_on: int) -> None:
        if self._taken is not None:
            self._taken(Due(conversation_id, business_id), bool(passed_on))


class _Storage(RedisStorage):  # type: ignore[misc]  # Huey has no types
    """Huey's list in Redis, bounded in length and in time, with a timeout for every wait."""

    def __init__(self, name: str, *, url: str, timeout_seconds: float) -> None:
        super().__init__(name, connection_pool=make_client(url, timeout_seconds).connection_pool)
        # Not the same connections: these wait for as long as there is nothing, and only then count as unanswered.
        self._waiting = make_client(url, WAIT_SECONDS + timeout_seconds)

    def enqueue(self, data: bytes, priority: float | None = None) -> None:  # noqa: ARG002 - Huey's signature
        with self.conn.pipeline(transaction=False) as pipe:
            pipe.lpush(self.queue_key, data)
            pipe.ltrim(self.queue_key, 0, MOST_QUEUED - 1)
            pipe.expire(self.queue_key, FORGOTTEN_SECONDS)
            # Raised by itself, an error would begin with the number of its command and not with Redis's own word.
            answers = pipe.execute(raise_on_error=False)
        for error in answers:
            if isinstance(error, Exception):
                raise error

    def dequeue(self) -> bytes | None:
        # Huey's own takes a Redis that does not answer for one that has nothing.
        taken = cast("list[bytes] | None", self._waiting.brpop([self.queue_key], timeout=WAIT_SECONDS))
        return taken[1] if taken else None

    def close(self) -> None:
        for client in (self.conn, self._waiting):
            client.connection_pool.disconnect(inuse_connections=False)


class _Numbers(Serializer):  # type: ignore[misc]
    """Writes a wake-up as `[conversation, business, passed_on]`, and reads nothing else."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps(data.args).encode()

    def _deserialize(self, data: bytes) -> Message:
        try:
            numbers = json.loads(data) if len(data) <= LONGEST else None
        except (ValueError, RecursionError) as exc:
            raise NotAWakeup from exc
        if not isinstance(numbers, list) or len(numbers) != 3 or not all(_is_id(number) for number in numbers):
            raise NotAWakeup
        return Message(name=_TASK, id="", args=tuple(numbers), kwargs={})


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


class _Huey(Huey):  # type: ignore[misc]
    """Huey without what looks into Redis beside the queue, and without its log line for each message and each fault."""

    on_error: Callable[[Exception], None]
    on_success: Callable[[], None]
    stop_flag: Any
    _strange = 0
    _report_at = 0.0

    def dequeue(self) -> Any:
        """The next wake-up as a task, or None: there was none within WAIT_SECONDS, or Redis did not answer."""
        try:
            data = self.storage.dequeue()
        except redis_errors() as exc:
            self.on_error(exc)
            self.stop_flag.wait(PAUSE_SECONDS)
            return None
        self.on_success()
        try:
            return None if data is None else self.deserialize_task(data)
        except NotAWakeup:
            self._refused()
            return None

    def execute(self, task: Any, timestamp: Any = None) -> None:  # noqa: ARG002 - Huey's signature
        task.execute()

    def _refused(self) -> None:
        self._strange += 1
        now = time.monotonic()
        if now >= self._report_at:
            self._report_at = now + REPORT_SECONDS
            event("wakeup_unreadable", level="warning", queue=self.storage.queue_key, count=self._strange)


class _NoScheduler(Scheduler):  # type: ignore[misc]
    """Nothing is scheduled."""

    def loop(self, now: Any = None) -> None:  # noqa: ARG002 - Huey's signature
        self.stop_flag.wait()


class _Consumer(Consumer):  # type: ignore[misc]
    scheduler_class = _NoScheduler

    def _set_signal_handlers(self) -> None:
        """Leave signals alone."""
