"""The thread cache in Redis, shared by every process of an install.

Each entry is a hash under `{sender}_{receiver}` with the fields `from`, `to` and `thread_id`, so that operators can
HGETALL it. On the message's path it never raises and waits at most a fraction of a second: an unreachable Redis is an
empty cache. Upkeep (`cache rebuild`, `cache verify`) makes one with `strict`, which says so instead.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from chatbotctl.core.adapters.breaker import Breaker
from chatbotctl.core.adapters.redis_client import make_client, outside_error, redis_errors
from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.log import event
from chatbotctl.core.metrics import Metrics
from chatbotctl.core.records.conversation import CachedThread, cache_key

if TYPE_CHECKING:
    from redis import Redis

#: Entries per round trip: some 150 KB on the wire and well under a megabyte here, whatever the size of the cache.
BATCH = 1000
#: Seconds that nobody asks an unreachable Redis again.
PAUSE_SECONDS = 2.0
#: Seconds that upkeep waits at least: it has time, and should not fail because Redis was saving its data just then.
PATIENCE_SECONDS = 5.0
#: Keys that look like ours; `scan` leaves every other key of a shared Redis alone.
PATTERN = "whatsapp:*_whatsapp:*"

#: Instead of an entry, when Redis does not tell whether there is one.
_NO_ANSWER: CachedThread | None = CachedThread(sender="", receiver="", thread_id="")
_FIELDS = (b"from", b"to", b"thread_id")
_T = TypeVar("_T")


class RedisCache:
    """ports.ThreadCache in Redis.

    Arguments:
        url: `redis://`, `rediss://` or `unix://`, with password and database number if any.
        timeout_seconds: for connecting, and again for each wait on an answer (not for looking up the host's name,
            which is the operating system's: give an address where names resolve slowly).
        strict: raise OutsideError when Redis does not do what it is asked, be patient and never pause: for upkeep, not
            for messages.
        metrics: told of every look for a thread.

    Raises ConfigurationError when `url` is no Redis URL.
    """

    def __init__(
        self, url: str, timeout_seconds: float, *, strict: bool = False, metrics: Metrics | None = None
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError(
                "redis.url is not a Redis URL.", hint="Begin it with redis://, rediss:// or unix://."
            )
        self._url = url
        self._timeout_seconds = max(timeout_seconds, PATIENCE_SECONDS) if strict else timeout_seconds
        self._strict = strict
        self._metrics = metrics or Metrics()
        self._breaker = Breaker(open_seconds=PAUSE_SECONDS)
        self._lock = threading.Lock()
        self._client: Redis | None = None

    def get(self, *, sender: str, receiver: str) -> CachedThread | None:
        """The entry, or None when there is none, when it is not readable as one, or when Redis is out of reach."""
        key = _encoded(cache_key(sender, receiver))
        if key is None:
            return None
        entry: CachedThread | None = self._ask(functools.partial(_read, key), _NO_ANSWER)
        if entry is _NO_ANSWER:
            self._metrics.cache_asked("unreachable")
            return None
        found = entry if entry is not None and (entry.sender, entry.receiver) == (sender, receiver) else None
        self._metrics.cache_asked("miss" if found is None else "hit")
        return found

    def put(self, *, entries: Iterable[CachedThread]) -> int:
        """Write entries over what is there, in batches; returns how many Redis took.

        Takes a stream of any length in constant memory. A live key is overwritten in place, so never missing.
        """
        written = 0
        stream = iter(entries)
        while batch := list(itertools.islice(stream, BATCH)):
            written += self._ask(functools.partial(_write, batch), 0)
        return written

    def remove(self, *, keys: Sequence[str]) -> int:
        """Remove entries by key, as `scan` spells it; returns how many were there."""
        removed = 0
        for start in range(0, len(keys), BATCH):
            names = [name for key in keys[start : start + BATCH] if (name := _encoded(key)) is not None]
            if names:
                removed += self._ask(functools.partial(_unlink, names), 0)
        return removed

    def scan(self, *, keys_only: bool = False) -> Iterator[tuple[str, CachedThread | None]]:
        """Every key that looks like ours with its entry; None when what is stored under it is not readable as one.

        With `keys_only` no entry is read: ten times as fast. Keys of every type are named, because another type under
        one of our keys makes each read of it fail. Redis may name a key twice while it resizes its table. Bytes of a
        key that are not UTF-8 come as lone surrogates, which `remove` takes back. Raises OutsideError when Redis is
        unreachable, strict or not.
        """
        cursor = 0
        while True:
            try:
                cursor, names = _names(self._redis(), cursor)
                found = [(_decoded(name), None) for name in names] if keys_only else _entries(self._redis(), names)
            except redis_errors() as exc:
                raise outside_error(exc) from exc
            yield from found
            if cursor == 0:
                return

    def ping(self) -> float | None:
        """Milliseconds that Redis takes to answer, or None when it does not; asks even while messages do not."""
        started = time.perf_counter()
        try:
            self._redis().ping()
        except redis_errors():
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return (time.perf_counter() - started) * 1000

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _ask(self, question: Callable[[Redis], _T], otherwise: _T) -> _T:
        """Redis's answer, or `otherwise` when it gives none; strict raises OutsideError instead."""
        if not self._strict and not self._breaker.allows():
            return otherwise
        from redis.exceptions import ResponseError

        try:
            answer = question(self._redis())
        except redis_errors() as exc:
            if self._strict:
                raise outside_error(exc) from exc
            if isinstance(exc, ResponseError):
                # It is up and quick, but will not do this: another type under our key, read-only, out of memory.
                self._breaker.succeeded()
            else:
                self._breaker.failed()
                event("cache_unreachable", level="warning", reason=outside_error(exc).reason)
            return otherwise
        self._breaker.succeeded()
        return answer

    def _redis(self) -> Redis:
        with self._lock:
            if self._client is None:
                self._client = make_client(self._url, self._timeout_seconds)
            return self._client


def _read(key: bytes, redis: Redis) -> CachedThread | None:
    from redis.exceptions import ResponseError

    try:
        return _entry(cast("list[bytes | None]", redis.hmget(key, *_FIELDS)))
    except ResponseError as exc:
        if not _is_of_another_type(exc):
            raise
        return None


def _write(batch: list[CachedThread], redis: Redis) -> int:
    """Write one batch in one round trip; returns how many of it Redis took."""
    hashes = [hash_ for entry in batch if (hash_ := _hash(entry)) is not None]
    with redis.pipeline(transaction=False) as pipe:
        for key, items in hashes:
            pipe.hset(key, items=items)
        answers = pipe.execute(raise_on_error=False)
    for (key, items), answer in zip(hashes, answers, strict=True):
        if isinstance(answer, Exception):
            if not _is_of_another_type(answer):
                raise answer
            with redis.pipeline(transaction=True) as pipe:
                pipe.unlink(key)
                pipe.hset(key, items=items)
                pipe.execute()
    return len(hashes)


def _is_of_another_type(error: Exception) -> bool:
    """Whether Redis refused because what it has under the key is no hash."""
    return str(error).startswith("WRONGTYPE")


def _hash(entry: CachedThread) -> tuple[bytes, list[bytes]] | None:
    """The key and the fields with their values in turn; None for text that UTF-8 cannot hold."""
    try:
        sender, receiver, thread_id = entry.sender.encode(), entry.receiver.encode(), entry.thread_id.encode()
    except UnicodeEncodeError:
        return None
    return sender + b"_" + receiver, [b"from", sender, b"to", receiver, b"thread_id", thread_id]


def _unlink(names: list[bytes], redis: Redis) -> int:
    return redis.unlink(*names)


def _names(redis: Redis, cursor: int) -> tuple[int, list[bytes]]:
    """One page of SCAN: the next cursor and the keys."""
    cursor, found = redis.scan(cursor, match=PATTERN, count=BATCH)
    return cursor, list(dict.fromkeys(cast("list[bytes]", found)))


def _entries(redis: Redis, names: list[bytes]) -> list[tuple[str, CachedThread | None]]:
    """What is stored under these keys, in one round trip."""
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(name)
        stored = pipe.execute(raise_on_error=False)
    page: list[tuple[str, CachedThread | None]] = []
    for name, value in zip(names, stored, strict=True):
        # A key that went away since SCAN named it reads as an empty hash.
        if value == {}:
            continue
        key = _decoded(name)
        entry = _entry([value.get(field) for field in _FIELDS]) if isinstance(value, dict) else None
        page.append((key, entry if entry is not None and entry.key == key else None))
    return page


def _entry(values: Sequence[bytes | None]) -> CachedThread | None:
    """The entry of a hash's three fields; None when one is missing, empty or not UTF-8."""
    try:
        sender, receiver, thread_id = (value.decode("utf-8") if value else "" for value in values)
    except UnicodeDecodeError:
        return None
    if not (sender and receiver and thread_id):
        return None
    return CachedThread(sender=sender, receiver=receiver, thread_id=thread_id)


def _decoded(name: bytes) -> str:
    """A key as text; bytes that are not UTF-8 as lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes | None:
    """As UTF-8, with the bytes that `scan` could not decode as they were; None for any other lone surrogate."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
