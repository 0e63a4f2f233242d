"""Whole SQLite files: a copy is one moment's while others write, and a file in use is told from one that is not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatbotctl.core.errors import ConflictError, RefusedError, StorageUnavailable
from chatbotctl.core.storage import sqlite_files
from chatbotctl.core.storage.sqlite_files import Unreadable

#: Opens a database as chatbotctl does, and does nothing with it.
IDLE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL").fetchone()
connection.execute("SELECT count(*) FROM pairs").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL").fetchone()
    return connection


def add_pair(connection: sqlite3.Connection) -> None:
    """Two rows in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        connection.execute("INSERT INTO pairs VALUES (?)", ("x" * 1000,))
    connection.execute("COMMIT")


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM pairs").fetchone()[0])


def nothing(done: int, total: int) -> None:
    """What copying tells of its pages."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE pairs (text)")
        for _ in range(50):
            add_pair(connection)
    return path


@contextmanager
def open_elsewhere(path: Path) -> Iterator[None]:
    """Another process has the file open, and does nothing."""
    command = [sys.executable, "-c", IDLE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.close()


def test_copy_is_one_moment_of_a_file_that_is_written_to_all_the_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "STEP", 2)
    steps = []
    with closing(connect(file)) as writer, sqlite_files.new_file(beside=tmp_path / "copy.db") as copy:

        def write_between_steps(done: int, total: int) -> None:
            steps.append((done, total))
            assert len(steps) < 1000, "it begins anew each time"
            add_pair(writer)

        sqlite_files.copy(file, copy, on_pages=write_between_steps)

        assert rows(copy) == 100
        assert sqlite_files.damage(copy) == []
        assert not any(path.exists() for path in sqlite_files.kept_beside(copy)), "one file is all of it"
    assert rows(file) == 100 + 2 * len(steps)
    assert len(steps) > 5
    assert steps[-1][0] == steps[-1][1], "at the end all pages are done"


def test_new_file_is_for_its_owners_eyes_only_and_goes_when_it_got_no_name(tmp_path: Path) -> None:
    with sqlite_files.new_file(beside=tmp_path / "copy.db") as path:
        assert path.stat().st_mode & 0o777 == 0o600
        sqlite_files.kept_beside(path)[0].touch()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="nowhere"), sqlite_files.new_file(beside=tmp_path / "nowhere" / "copy.db"):
        pass


def test_file_that_another_process_has_open_is_in_use_though_it_does_nothing(file: Path) -> None:
    with open_elsewhere(file):
        with pytest.raises(ConflictError, match="in use"):
            sqlite_files.require_unused(file)
        with pytest.raises(ConflictError, match="in use"), sqlite_files.alone(file):
            pass
    sqlite_files.require_unused(file)


def test_file_of_a_process_that_was_killed_is_in_nobodys_use(file: Path) -> None:
    command = [sys.executable, "-c", IDLE, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    sqlite_files.require_unused(file)
    with sqlite_files.alone(file) as locked:
        assert locked.execute("SELECT count(*) FROM pairs").fetchone() == (100,)


def test_nobody_gets_at_a_file_that_is_ours_alone(file: Path) -> None:
    locked = pytest.raises(sqlite3.OperationalError, match="locked")
    with sqlite_files.alone(file), closing(sqlite3.connect(file, timeout=0)) as other, locked:
        other.execute("SELECT count(*) FROM pairs").fetchone()


def test_file_is_overwritten_whole_and_stays_the_same_file(file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.db"
    with closing(connect(source)) as connection:
        connection.execute("CREATE TABLE pairs (text)")
        add_pair(connection)
    before = file.stat().st_ino

    with sqlite_files.alone(file) as locked:
        sqlite_files.overwrite(locked, source, on_pages=nothing)

    assert rows(file) == 2
    assert file.stat().st_ino == before


def test_overwriting_that_breaks_off_changes_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "STEP", 2)
    source = tmp_path / "source.db"
    with closing(connect(source)) as connection:
        connection.execute("CREATE TABLE pairs (text)")
        for _ in range(20):
            add_pair(connection)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), sqlite_files.alone(file) as locked:
        sqlite_files.overwrite(locked, source, on_pages=interrupted)

    assert rows(file) == 100


def test_what_is_no_database_is_told_from_a_database_with_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Something else.\n" * 1000)
    with pytest.raises(Unreadable), sqlite_files.alone(path):
        pass
    with pytest.raises(StorageUnavailable) as caught, sqlite_files.opened(tmp_path / "absent.db"):
        pass
    assert not isinstance(caught.value, Unreadable)


def test_damage_is_found_without_quoting_what_is_stored(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    with file.open("rb+") as raw:
        raw.seek(2 * 4096)
        raw.write(b"\xff" * 4096)
    lines = sqlite_files.damage(file)
    assert lines
    assert "xxx" not in "".join(lines)
