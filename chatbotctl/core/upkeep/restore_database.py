"""Puts a backup in the place of an SQLite database that nobody uses, and keeps what was there beside it.

A backup is the past: what was under way in it has been answered since, as far as anybody knows. So all of that becomes
dead letters before the copy gets its place, and nothing in it is answered, sent or posted by itself. Fences rise, so
that a worker of those days decides nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatbotctl.core.errors import ConflictError, NotFoundError, RefusedError, SchemaMismatch
from chatbotctl.core.storage import consistency, migrate, sqlite_files
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.migrate import SchemaState
from chatbotctl.core.upkeep.progress import Progress, pages
from chatbotctl.core.upkeep.repair_database import Held, hold

_NAME_A_BACKUP = "Name a file that `chatbotctl db backup` wrote."


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup, copied beside the database that it is to replace, and found sound."""

    copy: Path
    schema: SchemaState
    threads: int
    #: When anything was last said in it (seconds since 1970); None: never.
    last_message_at: float | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    #: What was there before; None: nothing was.
    kept: Path | None
    #: None: what was pending was left as it was.
    held: Held | None


@contextmanager
def prepared(source: Path, file: Path, *, progress: Progress) -> Iterator[Backup]:
    """A backup that could be restored to the database `file`, which must be in nobody's use.

    Raises NotFoundError, ConflictError (in use, or of a newer version), RefusedError (no backup of ours, or damaged),
    StorageUnavailable.
    """
    if not source.is_file():
        raise NotFoundError(f"There is no file {source}.", hint=_NAME_A_BACKUP)
    if file.exists():
        if source.samefile(file):
            raise RefusedError(f"{source} is the database itself.", hint=_NAME_A_BACKUP)
        sqlite_files.require_unused(file)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with sqlite_files.new_file(beside=file) as copy:
        _read(source, copy, progress)
        yield _examined(source, copy)


def restore(backup: Backup, file: Path, *, keep_pending: bool, progress: Progress) -> Restored:
    """Put a prepared backup in the place of the database `file`.

    Arguments:
        keep_pending: what was under way in it is gone on with, and what was waiting is answered.

    Raises ConflictError when somebody has begun to use the database, StorageUnavailable; it is as it was then.
    """
    held = None
    if not keep_pending:
        with closing(Database(f"sqlite:///{backup.copy}")) as database:
            held = hold(database, progress=progress, alone=True)
        sqlite_files.one_file(backup.copy)
    if not file.exists():
        sqlite_files.take_name(backup.copy, file)
        return Restored(None, held)
    kept = file.with_name(f"{file.name}.before-restore-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    if kept.exists():
        raise ConflictError(f"{kept} exists already.", hint="Try again in a second.")
    try:
        _replace(file, kept, backup.copy, progress)
    except sqlite_files.Unreadable:
        sqlite_files.require_unused(file)
        sqlite_files.move_aside(file, kept)
        sqlite_files.take_name(backup.copy, file)
    return Restored(kept, held)


def _replace(file: Path, kept: Path, copy: Path, progress: Progress) -> None:
    """Write the copy into the file itself, whose lock is held from before it is kept: nobody's write gets lost between.

    Another file under its name would be missed by whoever has just opened the old one.
    """
    present, new = sqlite_files.count_pages(file), sqlite_files.count_pages(copy)
    with sqlite_files.alone(file) as locked:
        with sqlite_files.new_file(beside=kept) as before, pages(progress, "Keeping what is there", present) as done:
            sqlite_files.save(locked, before, on_pages=done)
            sqlite_files.take_name(before, kept)
        with pages(progress, "Restoring", new) as done:
            sqlite_files.overwrite(locked, copy, on_pages=done)


def _read(source: Path, copy: Path, progress: Progress) -> None:
    """Copy the backup, and see that the copy is sound: the backup itself is only read."""
    try:
        with pages(progress, "Reading the backup", sqlite_files.count_pages(source)) as on_pages:
            sqlite_files.copy(source, copy, on_pages=on_pages)
        with progress("Checking it", None, "times"):
            damage = sqlite_files.damage(copy)
    except sqlite_files.Unreadable as error:
        raise RefusedError(f"{source} is no SQLite database, or a damaged one.", hint=_NAME_A_BACKUP) from error
    if damage:
        raise RefusedError(f"{source} is damaged ({damage[0]}).", hint="Take another backup.")


def _examined(source: Path, copy: Path) -> Backup:
    with closing(Database(f"sqlite:///{copy}")) as database:
        if not migrate.has_our_tables(database):
            raise RefusedError(f"{source} is no database of chatbotctl's.", hint=_NAME_A_BACKUP)
        schema = migrate.state(database)
        if schema.newer:
            raise SchemaMismatch(
                f"{source} has a schema ({schema.current}) that is newer than this version of chatbotctl knows.",
                hint="Upgrade chatbotctl on this machine.",
            )
        with database.read() as tx:
            threads, last_message_at = consistency.extent(tx)
    sqlite_files.one_file(copy)
    return Backup(copy, schema, threads, last_message_at)
