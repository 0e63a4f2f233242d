"""Whole SQLite files: copied while servers write, looked at, put in another's place. With sqlite3's own backup.

Nothing here goes through engine.py: its pool would keep files open, and a file that is open cannot be replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import exc
from sqlalchemy.engine import URL

from chatbotctl.core.errors import ConflictError, RefusedError, StorageUnavailable
from chatbotctl.core.storage.database_faults import unavailable
from chatbotctl.core.storage.engine import BUSY_SECONDS

#: Pages (of 4 KiB, as a rule) that are copied at a step.
STEP = 1000
#: What SQLite keeps beside a file.
_BESIDE = ("-wal", "-shm", "-journal")

#: Where SQLite locks a file: the pending, the reserved and 510 shared bytes.
_FIRST_LOCK_BYTE, _LOCK_BYTES = 0x40000000, 512

_MAKE_ROOM = "See that you may write into the folder, and that its disk has room."

#: Called with the pages that are done and how many there are.
Pages = Callable[[int, int], None]


class Unreadable(StorageUnavailable):
    """The file is no SQLite database, or not any more."""


@contextmanager
def opened(path: Path, *, wait: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """A file that is there, for reading and writing, while the block lasts.

    Arguments:
        wait: seconds that a statement waits for others' locks.

    Raises StorageUnavailable for its faults; Unreadable, which is one, when it is no SQLite database.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=wait)) as connection:
            yield connection
    except sqlite3.Error as error:
        fault = unavailable(exc.DBAPIError("", None, error), URL.create("sqlite", database=str(path)))
        if _name(error).startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise Unreadable(fault.message, hint=fault.hint) from error
        raise fault from error


@contextmanager
def new_file(beside: Path) -> Iterator[Path]:
    """An empty file for its owner's eyes only, in the folder of `beside`; what is left of it afterwards is removed.

    Raises RefusedError.
    """
    path = beside.with_name(f".{beside.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise RefusedError(f"No file can be made in {path.parent}: {error.strerror}.", hint=_MAKE_ROOM) from error
    try:
        yield path
    finally:
        for leftover in (path, *kept_beside(path)):
            leftover.unlink(missing_ok=True)


def copy(source: Path, target: Path, *, on_pages: Pages) -> None:
    """Make `target` hold what `source` holds at this moment, whoever goes on writing to it.

    A read transaction is kept open meanwhile: SQLite would begin anew at each write of somebody else's. Nobody waits
    for it, only the source's log grows. The copy is one file without a log beside it, and it is on the disk.

    Raises StorageUnavailable.
    """
    with opened(source) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with opened(target) as writing:
            _copy(reading, writing, on_pages)
            writing.execute("PRAGMA journal_mode=DELETE").fetchone()
    _to_disk(target)


def count_pages(path: Path) -> int:
    """How many pages a file has. Raises StorageUnavailable."""
    with opened(path) as connection:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])


def kept_beside(path: Path) -> list[Path]:
    """What SQLite may keep beside a file."""
    return [path.with_name(path.name + end) for end in _BESIDE]


def damage(path: Path) -> list[str]:
    """What SQLite finds wrong with a file, a line for each: they name tables and indexes, and quote nothing stored.

    Servers may go on writing: it sees one moment, and only the file's log grows meanwhile. Raises StorageUnavailable
    for other faults.
    """
    try:
        with opened(path) as connection:
            lines = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(20)")]
    except Unreadable:
        return ["the check itself broke off"]
    return [] if lines == ["ok"] else lines


def one_file(path: Path) -> None:
    """Write the log of a file that nobody else has open back into it. Raises StorageUnavailable."""
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    _to_disk(path)


def take_name(path: Path, name: Path) -> None:
    """Give a finished file its name, whatever had it before. Raises RefusedError."""
    try:
        path.replace(name)
        _folder_to_disk(name)
    except OSError as error:
        raise RefusedError(f"{name} cannot be written: {error.strerror}.", hint=_MAKE_ROOM) from error


def require_unused(path: Path) -> None:
    """Raise ConflictError when anybody has the file open, be it idle; whatever is in it, and without changing it.

    Whoever has used a file in WAL mode, as chatbotctl does, keeps SQLite's shared lock on it for as long as it is open
    (sqlite.org/walformat.html, sqlite.org/lockingv3.html: 510 bytes behind the first GiB). Leases do not tell: those of
    a server that was killed are still there, and an idle one has none. RefusedError: this user may not write to it.
    """
    try:
        opened_file = path.open("rb+")
    except OSError as error:
        raise RefusedError(
            f"{path} cannot be written: {error.strerror}.", hint="Run this as the user whom it belongs to."
        ) from error
    with opened_file as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _FIRST_LOCK_BYTE)
        except OSError as error:
            raise _in_use(path) from error


@contextmanager
def alone(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, locked against everybody else while the block lasts.

    To leave WAL mode takes that nobody else has the file open. Raises ConflictError when somebody has; otherwise as
    `opened` does.
    """
    with opened(path, wait=1.0) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock stays, as locking_mode says
        except sqlite3.OperationalError as error:
            if _name(error).startswith("SQLITE_BUSY"):
                raise _in_use(path) from error
            raise
        yield connection


def overwrite(locked: sqlite3.Connection, source: Path, *, on_pages: Pages) -> None:
    """Make a file that is `alone` hold what `source` holds: all of it, or, if anything breaks off, nothing."""
    with opened(source) as reading:
        _copy(reading, locked, on_pages)


def move_aside(path: Path, name: Path) -> None:
    """Rename a file that is no database any more, with what SQLite kept beside it. Raises RefusedError."""
    take_name(path, name)
    for old, new in zip(kept_beside(path), kept_beside(name), strict=True):
        with contextlib.suppress(FileNotFoundError):
            old.replace(new)


def save(locked: sqlite3.Connection, target: Path, *, on_pages: Pages) -> None:
    """Copy a file that is `alone` to `target`. Raises StorageUnavailable."""
    with opened(target) as writing:
        _copy(locked, writing, on_pages)
    _to_disk(target)


def _in_use(path: Path) -> ConflictError:
    return ConflictError(
        f"{path} is in use by another process.",
        hint="Stop whatever uses it (`chatbotctl serve`, `chatbotctl worker`), and try again.",
    )


def _name(error: sqlite3.Error) -> str:
    """SQLite's name for an error; some that Python itself raises have none."""
    return getattr(error, "sqlite_errorname", None) or ""


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, on_pages: Pages) -> None:
    source.backup(target, pages=STEP, progress=lambda _, left, total: on_pages(total - left, total))


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _folder_to_disk(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
