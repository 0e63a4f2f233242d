"""`db backup` and `db restore` as an operator sees them: copies that are whole, and a past that answers nobody."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from chatbotctl.core.storage import migrate
from chatbotctl.core.storage.engine import Database
from tests import installs
from tests.cli import Run, chatbotctl
from tests.unit.commands import business_site
from tests.unit.commands import db_site as site

POSTGRES = "postgresql://bot:hunter2@db.example.com:5433/bot%20one?sslmode=require"


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


def damage(path: Path) -> None:
    """A page in the middle is overwritten."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_events_conversation'").fetchone()
    with path.open("rb+") as raw:
        raw.seek((page[0] - 1) * 4096)
        raw.write(b"\xff" * 200)


def backed_up(name: str = "copy.db") -> Run:
    run = chatbotctl("db", "backup", name)
    assert run.code == 0, run.err
    return run


def copies() -> list[Path]:
    """What restores have kept."""
    return sorted(Path.cwd().glob("bot.db.before-restore-*"))


# backup


def test_backup_is_a_database_of_its_own_for_its_owners_eyes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run = backed_up()
    assert "bot.db is copied to copy.db" in run.out
    assert "the copy is sound" in run.out
    assert "secret.key" in run.err, "the key is not in it"
    assert Path("copy.db").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("DATABASE_URL", "sqlite:///copy.db")
    assert len(chatbotctl("thread", "list", "--json").json) == 2


def test_backup_leaves_nothing_else_behind(tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    backed_up()
    assert {path.name for path in set(tmp_path.iterdir()) - before} == {"copy.db"}


def test_file_that_is_there_is_replaced_only_with_force() -> None:
    Path("copy.db").write_text("something that somebody needs")
    run = chatbotctl("db", "backup", "copy.db")
    assert run.code == 6
    assert "--force" in run.err
    assert Path("copy.db").read_text() == "something that somebody needs"
    assert chatbotctl("db", "backup", "copy.db", "--force").code == 0
    assert Path("copy.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize("target", ["bot.db", "./bot.db", "link.db", "bot.db-wal", "folder", "nowhere/copy.db"])
def test_place_that_no_backup_can_have_is_refused(target: str, file: Path) -> None:
    Path("link.db").symlink_to(file)
    Path("folder").mkdir()
    before = file.read_bytes()
    run = chatbotctl("db", "backup", target, "--force")
    assert run.code == 7
    assert "Try: " in run.err
    assert file.read_bytes() == before


def test_what_is_no_file_is_not_replaced_not_even_with_force() -> None:
    os.mkfifo("pipe")
    run = chatbotctl("db", "backup", "pipe", "--force")
    assert run.code == 7
    assert "pipe is a device or a pipe" in run.err
    assert Path("pipe").is_fifo()


def test_damaged_database_gets_no_backup_that_looks_like_one(file: Path) -> None:
    damage(file)
    run = chatbotctl("db", "backup", "copy.db")
    assert run.code == 5
    assert "damaged" in run.err
    assert not Path("copy.db").exists()
    assert not list(Path.cwd().glob(".copy.db*"))


def test_database_that_is_not_there_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///absent.db")
    assert chatbotctl("db", "backup", "copy.db").code == 3
    assert not Path("absent.db").exists()


def test_database_of_something_else_gets_no_backup_that_restore_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.db").touch()
    monkeypatch.setenv("DATABASE_URL", "sqlite:///other.db")
    run = chatbotctl("db", "backup", "copy.db")
    assert run.code == 6
    assert "nothing to copy" in run.err
    assert not Path("copy.db").exists()


def test_postgresql_is_left_to_pg_dump_whose_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", POSTGRES)
    run = chatbotctl("db", "backup", "my copy.dump")
    assert run.code == 7
    assert "Nothing was copied" in run.err
    assert (
        "pg_dump --format=custom '--file=my copy.dump'"
        " '--dbname=postgresql://bot@db.example.com:5433/bot one?sslmode=require'"
    ) in run.err.replace("%20", " ")
    assert "PGPASSWORD" in run.err
    assert "hunter2" not in run.err


# restore


def test_restore_brings_the_past_back_and_keeps_the_present() -> None:
    backed_up()
    with business_site.core() as core:
        installs.take_in(core, "Later", sender="whatsapp:+15559999999")

    run = chatbotctl("db", "restore", "copy.db", "--yes")

    assert run.code == 0
    assert "copy.db: 2 threads, last message" in run.err
    assert len(chatbotctl("thread", "list", "--json").json) == 2
    (kept,) = copies()
    assert str(kept) in run.out
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT count(*) FROM business_clients").fetchone() == (3,)


def test_what_was_pending_in_a_backup_is_answered_by_nobody(file: Path) -> None:
    backed_up()
    run = chatbotctl("db", "restore", "copy.db", "--yes")

    assert "Held back: what was pending in 1 thread" in run.out
    assert site.value("SELECT state || ' ' || error_code FROM turns ORDER BY id DESC LIMIT 1") == "dead restored"
    with business_site.core() as core:
        assert installs.work(core, 2) is None
    assert chatbotctl("db", "check").code == 0
    with closing(sqlite3.connect("copy.db")) as connection:
        assert connection.execute("SELECT count(*) FROM turns").fetchone() == (1,), "the backup stays as it is"


def test_what_was_pending_is_answered_where_that_is_asked_for() -> None:
    backed_up()
    run = chatbotctl("db", "restore", "copy.db", "--yes", "--keep-pending")
    assert run.code == 0
    assert "Held back" not in run.out
    assert site.value("SELECT last_seq - done_seq FROM business_clients WHERE id = 2") == 1


def test_restore_asks_first() -> None:
    backed_up()
    run = chatbotctl("db", "restore", "copy.db")
    assert run.code == 7
    assert "--yes" in run.err
    assert copies() == []


def test_restore_is_refused_while_another_process_has_the_database(file: Path) -> None:
    backed_up()
    idle = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM turns').fetchone();"
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", idle, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        run = chatbotctl("db", "restore", "copy.db", "--yes")
        process.stdin.close()
    assert run.code == 6
    assert "in use" in run.err
    assert copies() == []
    assert chatbotctl("db", "restore", "copy.db", "--yes").code == 0


def test_database_that_is_gone_is_made_anew(file: Path) -> None:
    backed_up()
    for path in Path.cwd().glob("bot.db*"):
        path.unlink()
    assert chatbotctl("db", "restore", "copy.db", "--yes").code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(chatbotctl("thread", "list", "--json").json) == 2
    assert copies() == []


def test_damaged_database_is_kept_as_it_is_and_replaced(file: Path) -> None:
    backed_up()
    damage(file)
    assert chatbotctl("db", "check").code == 8
    assert chatbotctl("db", "repair", "--yes").code == 8
    assert chatbotctl("db", "restore", "copy.db", "--yes").code == 0
    assert chatbotctl("db", "check").code == 0
    assert len(copies()) == 1


def test_file_that_is_no_database_any_more_is_kept_and_replaced(file: Path) -> None:
    backed_up()
    file.write_bytes(b"\xff" * 9000)
    assert chatbotctl("db", "restore", "copy.db", "--yes").code == 0
    (kept,) = copies()
    assert kept.read_bytes() == b"\xff" * 9000
    assert len(chatbotctl("thread", "list", "--json").json) == 2


def test_older_backup_is_restored_and_upgraded_next() -> None:
    """What was pending is held all the same: once upgraded, it would be answered."""
    first_schema = Database("sqlite:///copy.db")
    first_schema.make_file()
    with first_schema.write() as tx:
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        tx.exec_driver_sql("INSERT INTO businesses (name, whatsapp_address, backend) VALUES ('luna', 'l', 'knowledge')")
        tx.exec_driver_sql("INSERT INTO clients (address) VALUES ('c')")
        tx.exec_driver_sql(
            "INSERT INTO business_clients (business_id, client_id, last_seq, ready_at) VALUES (1, 1, 1, 9)"
        )
        tx.exec_driver_sql(
            "INSERT INTO inbound_messages (sid, conversation_id, seq, sender, body, kind, media, parameters)"
            " VALUES ('SM1', 1, 1, 'c', 'Hello?', 'text', '[]', '{}')"
        )
    first_schema.close()

    run = chatbotctl("db", "restore", "copy.db", "--yes")

    assert run.code == 0
    assert "Run `chatbotctl db upgrade` next." in run.err
    assert chatbotctl("db", "check").code == 6
    assert chatbotctl("db", "upgrade").code == 0
    assert chatbotctl("db", "check").code == 0
    assert site.value("SELECT count(*) FROM turns WHERE error_code = 'restored'") == 1


def test_newer_backup_is_refused() -> None:
    backed_up()
    with closing(sqlite3.connect("copy.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    run = chatbotctl("db", "restore", "copy.db", "--yes")
    assert run.code == 6
    assert "Upgrade chatbotctl" in run.err
    assert copies() == []


@pytest.mark.parametrize("what", ["text", "other", "damaged", "itself", "absent"])
def test_what_is_no_backup_is_refused_and_nothing_changes(what: str, file: Path) -> None:
    backed_up()
    Path("text").write_text("Not a database.\n" * 1000)
    with closing(sqlite3.connect("other")) as connection:
        connection.execute("CREATE TABLE t (a)")
    shutil.copyfile("copy.db", "damaged")
    damage(Path("damaged"))
    named = "bot.db" if what == "itself" else what
    before = file.read_bytes()

    run = chatbotctl("db", "restore", named, "--yes")

    assert run.code == (3 if what == "absent" else 7)
    assert named in run.err
    assert "Try: " in run.err
    assert file.read_bytes() == before
    assert copies() == []
    assert not list(Path.cwd().glob(".bot.db*"))


def test_database_that_cannot_be_written_is_not_restored_to(monkeypatch: pytest.MonkeyPatch) -> None:
    backed_up()
    Path("folder").mkdir()
    monkeypatch.setenv("DATABASE_URL", "sqlite:///folder")
    run = chatbotctl("db", "restore", "copy.db", "--yes")
    assert run.code == 7
    assert "folder cannot be written: Is a directory." in run.err


def test_postgresql_is_left_to_pg_restore_whose_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", POSTGRES)
    run = chatbotctl("db", "restore", "copy.dump")
    assert run.code == 7
    assert "pg_restore --clean --if-exists" in run.err
    assert "chatbotctl db repair --hold-pending" in run.err
    assert "hunter2" not in run.err
