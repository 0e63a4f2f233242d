"""The database behind one door: SQLite or PostgreSQL by URL alone, write and read transactions, the database's clock.

Everything that touches SQL gets its Connection from here. A transaction that cannot be begun or committed raises
StorageUnavailable: whoever called must not acknowledge anything. This file knows no table.
"""

from __future__ import annotations

import hashlib
import select
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Engine, Table, create_engine, event, exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from chatbotctl.core.errors import ConfigurationError, StorageUnavailable
from chatbotctl.core.storage.database_faults import locked, unavailable

#: Seconds that a statement may wait for another process's lock on SQLite (and the lock timeout on PostgreSQL).
BUSY_SECONDS = 10
#: Seconds that one statement may run on PostgreSQL, where the default is for ever.
STATEMENT_SECONDS = 30
#: Seconds that a transaction may stand still on PostgreSQL, where the default is for ever: a process that is frozen, or
#: a machine that vanishes, in the middle of one would hold its locks, and nobody could take its conversations over.
#: Less than a lease, and far more than ours ever pause.
IDLE_SECONDS = 10
#: Seconds of silence after which a PostgreSQL server is asked whether it is there; it has one and a half times as long
#: to say so.
KEEPALIVE_SECONDS = 10
#: Pages of 4 KiB that SQLite's log may have before a commit copies them into the database: the default of 1,000 makes
#: every hundredth message or so wait for that.
CHECKPOINT_PAGES = 4000
#: What the connection that writes, and each of those that read, may keep of the database in memory.
WRITER_CACHE_KIB, READER_CACHE_KIB = 8192, 2048

_LIKE = "sqlite:////var/lib/chatbotctl/chatbotctl.db or postgresql://user:password@host/name"
_WITHOUT_DRIVER = "Write postgresql:// or sqlite:// alone: the driver that ships with chatbotctl is used."

#: How SQLite's transactions begin. IMMEDIATE takes the write lock at once: a deferred transaction that writes later can
#: fail with "locked" for good. FULL has a commit survive the plug being pulled; NORMAL lets that undo the latest ones.
_SQLITE_READ = ("BEGIN",)
_SQLITE_WRITE = ("PRAGMA synchronous=FULL", "BEGIN IMMEDIATE")
_SQLITE_QUICK_WRITE = ("PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE")


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


class earlier(FunctionElement[float]):  # noqa: N801 - reads as SQL
    """The lesser of two times, neither of them NULL."""

    type = Double()
    inherit_cache = True


class later(FunctionElement[float]):  # noqa: N801 - reads as SQL
    """The greater of two times, neither of them NULL."""

    type = Double()
    inherit_cache = True


@compiles(earlier, "sqlite")
def _earlier_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return f"min({compiler.process(element.clauses, **kw)})"


@compiles(earlier, "postgresql")
def _earlier_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return f"least({compiler.process(element.clauses, **kw)})"


@compiles(later, "sqlite")
def _later_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)})"


@compiles(later, "postgresql")
def _later_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)})"


def insert_or_skip(table: Table[Any]) -> postgresql.Insert:
    """An INSERT of `table` that can take `.on_conflict_do_nothing(...)`: SQLite's is PostgreSQL's, word for word."""
    return postgresql.insert(table)


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
            options["connect_args"] = {
                "connect_timeout": 5,
                # Of a server that vanished without a word, a machine that lost its power say, the system would tell
                # after two hours, or after the quarter of an hour that it sends the same bytes again and again.
                "keepalives_idle": KEEPALIVE_SECONDS,
                "keepalives_interval": KEEPALIVE_SECONDS // 2,
                "keepalives_count": 3,
                "tcp_user_timeout": STATEMENT_SECONDS * 1000,
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={BUSY_SECONDS}s "
                f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
            }
        self.engine: Engine = create_engine(self.url, pool_use_lifo=True, **options)
        #: SQLite has one writer at a time. Always the same connection: it finds its pages in its own cache, which each
        #: commit of another's would empty.
        self._writing = create_engine(self.url, **options | {"pool_size": 1}) if self.is_sqlite else self.engine
        # SQLite takes one writer at a time and its busy handler polls: queueing the writers of this process in front
        # of it is fair and quicker. Other processes still meet at the busy handler.
        self._writer = threading.Lock() if self.is_sqlite else None
        if self.is_sqlite:
            event.listen(self.engine, "connect", partial(_prepare_sqlite, cache_kib=READER_CACHE_KIB))
            event.listen(self._writing, "connect", partial(_prepare_sqlite, cache_kib=WRITER_CACHE_KIB))
        else:
            event.listen(self.engine, "checkout", _require_quiet)

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
        try:
            return self.file is not None and not self.file.exists()
        except OSError:
            # In a folder that may not be looked into: to open it says that in words.
            return False

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
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that writes: committed at the end of the block, rolled back by any exception.

        Arguments:
            durable: False where it does no harm that a power cut takes the commit back. On SQLite it then does not wait
                for the disk; whoever else could have acted on it has lost power too. On PostgreSQL every commit waits.

        Raises StorageUnavailable when it cannot be begun, carried out or committed.
        """
        begin = _SQLITE_WRITE if durable else _SQLITE_QUICK_WRITE
        with self._place_in_line(), self._transaction(self._writing, begin) as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Statements that only read; on SQLite, all of one moment. Raises StorageUnavailable like `write`."""
        with self._transaction(self.engine, _SQLITE_READ) as tx:
            if self.is_sqlite:
                yield tx
                return
            # Each statement sees what was committed when it began, in a transaction or not: without one, two of three
            # round trips are spared. The driver's own switch, because SQLAlchemy's makes another round trip.
            driver: Any = tx.connection.dbapi_connection
            driver.autocommit = True
            try:
                yield tx
            finally:
                if not driver.closed:
                    driver.autocommit = False

    @contextmanager
    def _place_in_line(self) -> Iterator[None]:
        """The right to write, when this process's other writers have had theirs.

        For as long as SQLite itself would wait, and no longer: behind a lock of another process the waits would add up.
        """
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_SECONDS):
            raise locked(self.url)
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _transaction(self, engine: Engine, begin_sqlite: Sequence[str]) -> Iterator[Connection]:
        try:
            with engine.connect() as connection, connection.begin():
                if self.is_sqlite:
                    cursor = connection.connection.cursor()
                    for statement in begin_sqlite:
                        cursor.execute(statement)
                yield connection
        except (exc.IntegrityError, exc.DataError, exc.NotSupportedError):
            # What we wanted to store was wrong; everything else that a driver raises is the database's: a damaged file,
            # or a table that is away for a moment (ProgrammingError on PostgreSQL, OperationalError on SQLite).
            raise
        except (exc.DBAPIError, exc.TimeoutError, sqlite3.Error) as error:
            raise unavailable(error, self.url) from error

    def close(self) -> None:
        """Close all pooled connections."""
        for engine in (self.engine, self._writing):
            engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any, *, cache_kib: int) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: pysqlite's own is deferred and comes too late
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    cursor.execute(f"PRAGMA cache_size=-{cache_kib}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _require_quiet(connection: Any, _record: Any, _proxy: Any) -> None:
    """Have the pool replace a connection that the server has ended: it stands at the end of its stream, or has a last
    word to say, while one that is alive and idle is silent. That is seen here, without the round trip of a ping.
    """
    if not connection.closed:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if not poll.poll(0):
            return
    raise exc.DisconnectionError("The server has ended the connection.")
