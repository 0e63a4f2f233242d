"""The database behind one door: SQLite or PostgreSQL by URL alone, write and read transactions, the database's clock.

Everything that touches SQL gets its Connection from here. A transaction that cannot be begun or committed raises
StorageUnavailable: whoever called must not acknowledge anything. This file knows no table.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, Table, create_engine, event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from chatbotctl.core.errors import ConfigurationError, StorageUnavailable
from chatbotctl.core.storage.database_faults import unavailable

#: Seconds that a statement may wait for another process's lock on SQLite (and the lock timeout on PostgreSQL).
BUSY_SECONDS = 10
#: Seconds that one statement may run on PostgreSQL, where the default is for ever.
STATEMENT_SECONDS = 30
#: Seconds that a transaction may stand still on PostgreSQL, where the default is for ever: a process that is frozen, or
#: a machine that vanishes, in the middle of one would hold its locks, and nobody could take its conversations over.
#: Less than a lease, and far more than ours ever pause.
IDLE_SECONDS = 10

_LIKE = "sqlite:////var/lib/chatbotctl/chatbotctl.db or postgresql://user:password@host/name"
_WITHOUT_DRIVER = "Write postgresql:// or sqlite:// alone: the driver that ships with chatbotctl is used."

_BEGIN_IMMEDIATE = "chatbotctl_write"


class now(FunctionElement[float]):  # noqa: N801 - reads as SQL
    """The database's clock: seconds since 1970 UTC, the same for every process that shares the database."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; julianday has the same millisecond resolution everywhere.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # clock_timestamp moves on inside a transaction, now() does not.
    return "extract(epoch from clock_timestamp())::double precision"


def insert_or_skip(tx: Connection, table: Table[Any]) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of `table` that can take `.on_conflict_do_nothing(...)`, in the connection's own dialect."""
    return sqlite.insert(table) if tx.dialect.name == "sqlite" else postgresql.insert(table)


def database_url(text: str) -> URL:
    """Parse `text`; plain `postgres://` and `postgresql://` become the driver that ships with chatbotctl.

    Raises ConfigurationError for what is no URL, names no file, or asks for a driver that is not there.
    """
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigurationError("database.url is not a database URL.", hint=f"Write it like {_LIKE}.") from error
    if url.drivername in ("postgres", "postgresql"):
        # SQLAlchemy 2.1 reads these as psycopg 3, which is not what we ship; an explicit driver is kept as it is.
        url = url.set(drivername="postgresql+psycopg2")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"database.url names {url.get_backend_name()}, which is not supported.", hint="Use sqlite or postgresql."
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        # What one command stores in memory, the next does not find.
        raise ConfigurationError("database.url names no file.", hint=f"Write it like {_LIKE}.")
    _require_driver(url)
    return url


def _require_driver(url: URL) -> None:
    """Raise ConfigurationError unless the URL's driver is installed and one that can wait."""
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except (exc.ArgumentError, ImportError) as error:
        raise ConfigurationError(
            f"database.url asks for the driver {url.drivername}, which is not installed.", hint=_WITHOUT_DRIVER
        ) from error
    if dialect.is_async:
        raise ConfigurationError(
            f"database.url asks for the driver {url.drivername}, which is not supported.", hint=_WITHOUT_DRIVER
        )


class Database:
    """One database. Safe to share between threads; make one per process (never share it over a fork)."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        """Prepare, without connecting yet.

        Arguments:
            url: an SQLAlchemy URL or a hosting provider's `postgres://...`.
            pool_size: connections that are open at most. A transaction that finds none free waits for up to
                BUSY_SECONDS, and is then a StorageUnavailable like any other.
        """
        self.url = database_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": BUSY_SECONDS}
        # An error's words reach logs and screens, and a statement's parameters are what customers wrote.
        options["hide_parameters"] = True
        if not self.is_sqlite:
            options["pool_pre_ping"] = True
            options["connect_args"] = {
                "connect_timeout": 5,
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={BUSY_SECONDS}s "
                f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
            }
        self.engine: Engine = create_engine(self.url, **options)
        # SQLite takes one writer at a time and its busy handler polls: queueing the writers of this process in front
        # of it is fair and quicker. Other processes still meet at the busy handler.
        self._writer: threading.Lock | nullcontext[None] = threading.Lock() if self.is_sqlite else nullcontext()
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def described(self) -> str:
        """The database as people know it: its URL without the password, or its file."""
        return str(self.file or self.url.render_as_string(hide_password=True))

    @property
    def identity(self) -> str:
        """A short name for this database among others, the same in every process whose URL names it alike."""
        url = self.url
        host = url.host or url.query.get("host") or ""
        where = str(self.file.resolve()) if self.file else f"{host}:{url.port or 5432}/{url.database or ''}"
        return hashlib.sha256(where.encode()).hexdigest()[:12]

    @property
    def file(self) -> Path | None:
        """The SQLite file, or None on PostgreSQL and in memory."""
        name = self.url.database
        return Path(name) if self.is_sqlite and name and name != ":memory:" else None

    @property
    def is_absent(self) -> bool:
        """Whether the SQLite file is yet to be made."""
        return self.file is not None and not self.file.exists()

    def make_file(self) -> None:
        """Make the SQLite file, if it is absent, for its owner's eyes only: it holds what customers write.

        Raises StorageUnavailable.
        """
        if not self.is_absent:
            return
        assert self.file is not None, "only a file can be absent"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.file.touch(mode=0o600)
        except OSError as error:
            raise StorageUnavailable(
                f"The database file {self.file} cannot be made: {error.strerror}.",
                hint="Name another place with database.url (DATABASE_URL) or CHATBOTCTL_HOME.",
            ) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the block, rolled back by any exception.

        Raises StorageUnavailable when it cannot be begun, carried out or committed.
        """
        with self._writer, self._transaction({_BEGIN_IMMEDIATE: True}) as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises StorageUnavailable like `write`."""
        with self._transaction({}) as tx:
            yield tx

    @contextmanager
    def _transaction(self, options: dict[str, Any]) -> Iterator[Connection]:
        try:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except (exc.IntegrityError, exc.DataError, exc.NotSupportedError):
            # What we wanted to store was wrong; everything else that a driver raises is the database's: a damaged file,
            # or a table that is away for a moment (ProgrammingError on PostgreSQL, OperationalError on SQLite).
            raise
        except (exc.DBAPIError, exc.TimeoutError) as error:
            raise unavailable(error, self.url) from error

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: pysqlite's own is deferred and comes too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit survives the plug being pulled
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: a deferred transaction that writes later can fail with "locked" for good.
    immediate = connection.get_execution_options().get(_BEGIN_IMMEDIATE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
