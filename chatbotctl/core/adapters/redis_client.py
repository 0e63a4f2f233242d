"""How Redis is reached: a client that cannot hang, and what its errors are called. For redis_cache and huey_queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatbotctl.core.errors import OutsideError

if TYPE_CHECKING:
    from redis import Redis


def make_client(url: str, timeout_seconds: float) -> Redis:
    """A client that cannot hang: left to itself, redis-py retries for half a minute on a hung server.

    Arguments:
        timeout_seconds: for connecting, and again for each wait on an answer.

    Connects on first use. Raises one of `redis_errors` for a URL that is none.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        # RESP2 and no driver_info: a new connection costs no HELLO, no CLIENT SETINFO and no subscription to
        # maintenance notices (which may stretch the timeouts). Each would be one more answer to wait for.
        protocol=2,
        driver_info=None,
        # More than there are threads: at the default of 100 the next thread's read is an error.
        max_connections=10_000,
    )


def redis_errors() -> tuple[type[Exception], ...]:
    """What redis-py raises; ValueError when something that is not Redis answers, or for an impossible host or port."""
    from redis.exceptions import RedisError

    return RedisError, OSError, ValueError


def outside_error(exc: Exception) -> OutsideError:
    """One of `redis_errors` in our own words; `retryable` unless Redis was there and refused."""
    from redis.exceptions import ResponseError
    from redis.exceptions import TimeoutError as RedisTimeoutError

    hint = "Check redis.url (REDIS_URL) and that Redis runs."
    if isinstance(exc, ResponseError):
        # Redis's own word (WRONGTYPE), which redis-py takes off where it has a class for it (OutOfMemoryError).
        reason = str(exc).partition(" ")[0] if type(exc) is ResponseError else type(exc).__name__
        return OutsideError("Redis refused the command.", reason=reason, hint=hint)
    reason = "timeout" if isinstance(exc, RedisTimeoutError) else "unreachable"
    return OutsideError("Redis cannot be reached.", reason=reason, retryable=True, hint=hint)
