"""Copies an SQLite database to a file while servers write; the file has its name once it is whole and sound."""

from __future__ import annotations

from pathlib import Path

from chatbotctl.core.errors import AlreadyExists, NotFoundError, RefusedError, StorageUnavailable
from chatbotctl.core.storage import sqlite_files
from chatbotctl.core.upkeep.progress import Progress, pages


def back_up(file: Path, target: Path, *, force: bool, progress: Progress) -> int:
    """Copy the database `file` to `target`; returns the copy's size in bytes.

    Arguments:
        force: replace what is there already.

    Raises NotFoundError, AlreadyExists, RefusedError, StorageUnavailable; what was at `target` is there still.
    """
    if not file.is_file():
        raise NotFoundError(f"There is no database {file}.", hint="`chatbotctl init` makes one.")
    _require_free(file, target, force=force)
    with sqlite_files.new_file(beside=target) as copy:
        with pages(progress, "Copying", sqlite_files.count_pages(file)) as on_pages:
            sqlite_files.copy(file, copy, on_pages=on_pages)
        with progress("Checking the copy", None, "times"):
            damage = sqlite_files.damage(copy)
        if damage:
            raise StorageUnavailable(
                f"The database is damaged, and so would its copy be ({damage[0]}). Nothing was written.",
                hint="`chatbotctl db check` tells more. Restore an older backup, or keep the file itself with cp.",
            )
        _require_free(file, target, force=force)
        sqlite_files.take_name(copy, target)
    return target.stat().st_size


def _require_free(file: Path, target: Path, *, force: bool) -> None:
    mine = [file, *sqlite_files.kept_beside(file)]
    if target.resolve() in [path.resolve() for path in mine]:
        raise RefusedError(f"{target} is the database itself.", hint="Name another file.")
    if target.is_dir():
        raise RefusedError(f"{target} is a folder.", hint="Name a file in it.")
    if target.exists() and not target.is_file():
        # Root could put a file in the place of /dev/null, and every process of the machine would write into it.
        raise RefusedError(f"{target} is a device or a pipe, which a copy cannot replace.", hint="Name a file.")
    if target.exists() and not force:
        raise AlreadyExists(f"{target} exists already.", hint="Name another file, or replace it with --force.")
