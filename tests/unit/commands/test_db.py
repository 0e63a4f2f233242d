"""`db upgrade` and `db current` on both stores, and on databases that do not fit or cannot be reached."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chatbotctl.core.storage.engine import Database
from tests import installs
from tests.cli import chatbotctl


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database that the command line uses."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def set_schema(url: str, revision: str) -> None:
    """The database was left by another version of chatbotctl."""
    database = Database(url)
    with database.write() as tx:
        tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    database.close()


def test_upgrade_makes_the_tables_and_says_from_where_to_where(database_url: str) -> None:
    run = chatbotctl("db", "upgrade")
    assert run.code == 0
    assert "upgraded from nothing to schema 0" in run.out
    assert chatbotctl("thread", "list", "--json").json == []


def test_second_upgrade_has_nothing_to_do(database_url: str) -> None:
    chatbotctl("db", "upgrade")
    run = chatbotctl("db", "upgrade")
    assert run.code == 0
    assert "already" in run.out


def test_database_of_something_else_is_left_alone(database_url: str) -> None:
    database = Database(database_url)
    database.make_file()
    with database.write() as tx:
        tx.exec_driver_sql("CREATE TABLE clients (name TEXT)")
    database.close()
    run = chatbotctl("db", "upgrade")
    assert run.code == 6
    assert "a table `clients` that is not chatbotctl's" in run.err
    assert chatbotctl("db", "current", "--json").json["current"] is None


def test_current_says_that_a_fresh_database_has_no_tables(database_url: str) -> None:
    run = chatbotctl("db", "current", "--json")
    assert run.code == 6
    assert list(run.json) == ["current", "wanted", "fits"]
    assert (run.json["current"], run.json["fits"]) == (None, False)
    assert "chatbotctl db upgrade" in run.err


def test_current_says_that_an_upgraded_database_fits(database_url: str) -> None:
    chatbotctl("db", "upgrade")
    run = chatbotctl("db", "current", "--json")
    assert run.code == 0
    assert run.json["current"] == run.json["wanted"]
    assert run.json["fits"] is True
    run = chatbotctl("db", "current")
    assert run.code == 0
    assert ["Fits", "yes"] in [line.split() for line in run.out.splitlines()]


def test_database_of_a_newer_version_is_refused_and_left_alone(database_url: str) -> None:
    chatbotctl("db", "upgrade")
    set_schema(database_url, "9999")
    for command in (("db", "current"), ("db", "upgrade"), ("thread", "list")):
        run = chatbotctl(*command)
        assert run.code == 6
        assert "newer" in run.err
        assert "Upgrade chatbotctl" in run.err
    assert chatbotctl("db", "current", "--json").json["current"] == "9999"


def test_password_is_shown_nowhere(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    chatbotctl("db", "upgrade")
    with_password = postgres_url.replace("://postgres:@", "://postgres:hunter2@")
    assert "hunter2" in with_password
    monkeypatch.setenv("DATABASE_URL", with_password)
    for command in (("db", "current"), ("db", "upgrade")):
        run = chatbotctl(*command)
        assert run.code == 0
        assert "hunter2" not in run.out + run.err


def test_looking_makes_no_database(tmp_path: Path) -> None:
    assert chatbotctl("db", "current").code == 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("db", "current"), ("db", "upgrade"), ("thread", "list")])
def test_database_that_is_down_is_an_outside_failure(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("DATABASE_URL", f"postgresql://somebody:hunter2@127.0.0.1:{port}/somewhere")
    run = chatbotctl(*command)
    assert run.code == 5
    assert "database" in run.err
    assert "hunter2" not in run.err
    assert run.out == ""


@pytest.mark.parametrize("command", [("db", "current"), ("db", "upgrade"), ("thread", "list")])
def test_file_that_is_no_database_is_an_error_and_stays_as_it_is(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but something that somebody needs.\n" * 100)
    before = path.read_bytes()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{path}")
    run = chatbotctl(*command)
    assert run.code == 5
    assert "database" in run.err
    assert path.read_bytes() == before


def test_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'file' / 'bot.db'}")
    run = chatbotctl("db", "upgrade")
    assert run.code == 5
    assert str(tmp_path / "file" / "bot.db") in run.err


@pytest.mark.parametrize("url", ["mysql://localhost/bot", "not a url", "redis://localhost"])
def test_url_of_no_database_is_a_configuration_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    run = chatbotctl("db", "current")
    assert run.code == 4
    assert "database.url" in run.err


def test_new_database_file_is_for_its_owners_eyes_only(tmp_path: Path) -> None:
    chatbotctl("db", "upgrade")
    assert (tmp_path / "chatbotctl.db").stat().st_mode & 0o777 == 0o600


def test_disk_without_room_for_so_much_as_a_look_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: whoever opens the file first needs a little room beside it. Here no file may grow to that."""
    monkeypatch.setenv("DATABASE_URL", installs.sqlite_database(tmp_path))
    run = subprocess.run(
        [sys.executable, "-m", "chatbotctl", "db", "current"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 5
    assert "its disk is full" in run.stderr
    assert "Make room" in run.stderr
