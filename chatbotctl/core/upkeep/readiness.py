"""Can this process take messages in? Asked by `/readyz`, often; it changes nothing."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from chatbotctl.core.storage import migrate
from chatbotctl.core.storage.engine import Database


class RedisState(enum.StrEnum):
    """How the thread cache's Redis stands; the words are what `/readyz` reports."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    NOT_CONFIGURED = "not configured"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is worth knowing of a process that is ready."""

    redis: RedisState


def require_ready(database: Database, *, ask_redis: Callable[[], float | None] | None) -> Readiness:
    """How a process stands that can store messages.

    Arguments:
        ask_redis: milliseconds that Redis takes to answer, None when it does not; None: there is no Redis. Without
            Redis the database is asked instead, so its outage makes nobody unready.

    Raises StorageUnavailable or SchemaMismatch: nothing could be stored.
    """
    migrate.require_fitting(database)
    if ask_redis is None:
        return Readiness(RedisState.NOT_CONFIGURED)
    return Readiness(RedisState.UNREACHABLE if ask_redis() is None else RedisState.OK)
