"""How this process stands: can it do its work, and what waits? Asked by `/readyz` and `/metrics`, often.

It changes nothing, and answers within seconds whatever the database does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatbotctl.core import metrics
from chatbotctl.core.errors import ChatbotError, StorageUnavailable
from chatbotctl.core.metrics import Reading
from chatbotctl.core.storage import load, migrate
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.load import Load
from chatbotctl.core.upkeep.lookout import Lookout

if TYPE_CHECKING:
    from chatbotctl.core.flow.worker import Worker

#: Seconds that a counted load is told again: however many ask, the database counts no more often.
LOAD_SECONDS = 5.0


class RedisState(enum.StrEnum):
    """How the thread cache's Redis stands; the words are what `/readyz` reports."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    NOT_CONFIGURED = "not configured"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is worth knowing of a process that is ready."""

    redis: RedisState
    #: Up to LOAD_SECONDS old; None: it could not be counted in time.
    load: Load | None
    #: Whether turns run in this process.
    has_worker: bool


class Vitals:
    """One process's. Safe to share between threads.

    Arguments:
        ask_redis: milliseconds that Redis takes to answer, None when it does not; None: there is no Redis. Without
            Redis the database is asked instead, so its outage makes nobody unready.
    """

    def __init__(self, database: Database, *, ask_redis: Callable[[], float | None] | None) -> None:
        self._ask_redis = ask_redis
        self._usable = Lookout(lambda: _require_usable(database))
        self._load = Lookout(lambda: _counted(database), keep_seconds=LOAD_SECONDS)
        #: The process is about to end: nothing is taken in any more, and `/readyz` says so.
        self.draining = False
        #: The process's worker, if turns run here.
        self.worker: Worker | None = None

    def drain(self) -> None:
        """The process is about to end."""
        self.draining = True

    def require_ready(self) -> Readiness:
        """How a process stands that can do its work: store messages, and run turns where it has a worker.

        Raises StorageUnavailable or SchemaMismatch when it cannot.
        """
        self._usable.latest()
        if self.worker is not None and self.worker.paused:
            raise StorageUnavailable("The worker takes no turns: the database did not answer it a moment ago.")
        try:
            waiting = self._load.latest()
        except ChatbotError:
            waiting = None
        return Readiness(redis=self._redis(), load=waiting, has_worker=self.worker is not None)

    def readings(self) -> Iterator[Reading]:
        """The gauges of `/metrics`. What cannot be known at the moment is left out; nothing is raised."""
        if self.worker is not None:
            yield metrics.IN_FLIGHT, (), self.worker.in_flight
            yield metrics.PAUSED, (), self.worker.paused
        try:
            waiting = self._load.latest()
        except ChatbotError:
            yield metrics.DATABASE_UP, (), 0
            return
        yield metrics.DATABASE_UP, (), 1
        yield metrics.QUEUE_DEPTH, (), waiting.due
        yield metrics.QUEUE_OLDEST, (), waiting.oldest_seconds
        yield metrics.DEAD_LETTERS, ("turn",), waiting.dead
        yield metrics.DEAD_LETTERS, ("slack",), waiting.slack_dead
        yield metrics.SLACK_OWED, (), waiting.slack_owed
        yield metrics.SLACK_OLDEST, (), waiting.slack_oldest_seconds

    def _redis(self) -> RedisState:
        if self._ask_redis is None:
            return RedisState.NOT_CONFIGURED
        return RedisState.UNREACHABLE if self._ask_redis() is None else RedisState.OK


def _require_usable(database: Database) -> None:
    """Raise SchemaMismatch or StorageUnavailable unless messages could be stored, as far as reading tells."""
    migrate.require_fitting(database)
    if database.is_sqlite:
        return
    with database.read() as tx:
        if load.is_read_only(tx):
            raise StorageUnavailable("The database is not usable at the moment: it is read-only.")


def _counted(database: Database) -> Load:
    with database.read() as tx:
        return load.read(tx)
