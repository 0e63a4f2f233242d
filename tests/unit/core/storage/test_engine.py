"""Database URLs, and what each kind of database does when it is not there, not one, or full of writers."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from chatbotctl.core.errors import ConfigurationError, StorageUnavailable
from chatbotctl.core.storage import migrate
from chatbotctl.core.storage.engine import Database, database_url
from tests.installs import eventually
from tests.services import administrator


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+psycopg2"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2"),
        ("sqlite:////tmp/x.db", "sqlite"),
    ],
)
def test_url_as_hosts_hand_it_out_gets_the_driver_that_ships_with_us(given: str, driver: str) -> None:
    assert database_url(given).drivername == driver


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "postgresql+nosuch", "sqlite+nosuch"])
def test_driver_that_is_not_installed_is_a_configuration_error(driver: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{driver[:7]}.*not (installed|supported)") as caught:
        database_url(f"{driver}://u:canary@h/d")

    assert "canary" not in f"{caught.value} {caught.value.hint}"
    assert "postgresql:// or sqlite://" in str(caught.value.hint)


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_sqlite_without_a_file_is_a_configuration_error(given: str) -> None:
    with pytest.raises(ConfigurationError, match="names no file"):
        database_url(given)


@pytest.mark.parametrize("given", ["", "nonsense", "mysql://u:canary-pw@h/d", "://", "postgres//h/d"])
def test_other_url_is_a_configuration_error_that_shows_no_password(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url") as caught:
        database_url(given)

    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_description_has_no_password() -> None:
    assert "canary" not in Database("postgresql://u:canary@127.0.0.1/d").described
    assert Database("sqlite:////tmp/x.db").described == "/tmp/x.db"


def test_sqlite_survives_the_plug_being_pulled_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with database.read() as tx:
        settings = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    database.close()

    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_sqlite_waits_for_the_disk_unless_told_that_it_need_not(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    levels = []
    for durable in (True, False, True):
        with database.write(durable=durable) as tx:
            levels.append(tx.exec_driver_sql("PRAGMA synchronous").scalar())
    database.close()

    assert levels == [2, 1, 2]


def test_postgres_reads_leave_no_transaction_open_and_writes_are_one(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1)
    started = text("SELECT now() = statement_timestamp()")
    for _ in range(2):
        with database.read() as tx:
            tx.execute(text("SELECT 1"))
            assert tx.scalar(started)
        with database.write() as tx:
            tx.execute(text("SELECT 1"))
            assert not tx.scalar(started)
    database.close()


def test_folder_that_is_not_there_is_storage_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")

    with pytest.raises(StorageUnavailable, match="its file cannot be opened") as caught, database.write():
        pass

    assert str(tmp_path / "missing" / "x.db") in str(caught.value.hint)


@pytest.mark.parametrize("content", [b"this is no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_file_that_is_no_database_is_storage_unavailable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")

    with pytest.raises(StorageUnavailable, match=r"its file is no SQLite database|it is damaged") as caught:
        migrate.state(database)
    database.close()

    assert str(tmp_path / "x.db") in str(caught.value.hint)


def test_server_that_is_not_there_is_storage_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
        said, hint = refusal(f"postgresql://u:canary@{place}/d")

    assert said == "The database is not usable at the moment: the connection was refused."
    assert place in hint
    assert "DATABASE_URL" in hint


def test_database_that_is_not_there_is_named(postgres_url: str) -> None:
    said, hint = refusal(str(make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)))

    assert said == "The database is not usable at the moment: there is no such database."
    assert "`nowhere`" in hint


def test_password_that_is_refused_is_told_from_a_user_that_is_not_known(postgres_url: str) -> None:
    with asking_for_passwords(postgres_url):
        url = make_url(postgres_url).set(username="ann", password="canary")
        said, hint = refusal(url.render_as_string(hide_password=False))

    assert said == "The database is not usable at the moment: the password was refused."
    assert "user ann" in hint
    said, hint = refusal(make_url(postgres_url).set(username="bob").render_as_string(hide_password=False))
    assert "it does not let this user in" in said
    assert "user bob" in hint


def test_host_that_nobody_knows_is_named() -> None:
    said, hint = refusal("postgresql://u:canary@no-such-host.invalid/d")

    assert "its host is not known" in said
    assert "no-such-host.invalid:5432" in hint


def test_url_with_an_unknown_option_is_named() -> None:
    assert "an option that it does not know" in refusal("postgresql://u:canary@127.0.0.1:1/d?canary=1")[0]


def test_missing_table_and_read_only_transaction_are_told_apart(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(StorageUnavailable, match="a table or a column is missing"), database.read() as tx:
        tx.execute(text("SELECT * FROM canary"))
    with pytest.raises(StorageUnavailable, match="it is read-only"), database.write() as tx:
        tx.execute(text("SET TRANSACTION READ ONLY"))
        tx.execute(text("CREATE TABLE t (n int)"))
    database.close()


def test_lock_that_another_process_keeps_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatbotctl.core.storage.engine.BUSY_SECONDS", 0)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with database.read():
        pass
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageUnavailable, match="it is locked by another process"), database.write():
        pass
    other.close()
    database.close()


def test_writers_of_one_process_do_not_wait_for_one_another_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a lock of another process each of them would wait for the full time, one after the other."""
    monkeypatch.setattr("chatbotctl.core.storage.engine.BUSY_SECONDS", 0.05)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with (
        database.write(),
        pytest.raises(StorageUnavailable, match="it is locked by another process"),
        database.write(),
    ):
        pass
    with database.write():
        pass
    database.close()


def refusal(url: str) -> tuple[str, str]:
    """The sentence and the hint of a database that does not let us in."""
    database = Database(url)
    with pytest.raises(StorageUnavailable) as caught, database.read():
        pass
    database.close()
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    return caught.value.message, str(caught.value.hint)


@contextlib.contextmanager
def asking_for_passwords(url: str) -> Iterator[None]:
    """The server knows `ann`, who needs a password."""
    with administrator(url) as cursor:
        cursor.execute("SHOW hba_file")
        (name,) = cursor.fetchone() or ("",)
        before = Path(name).read_text("utf-8")
        cursor.execute("CREATE ROLE ann LOGIN PASSWORD 'other'")
        try:
            Path(name).write_text(f"local all ann scram-sha-256\nhost all ann all scram-sha-256\n{before}", "utf-8")
            loaded_before = _rules_loaded_at(url)
            cursor.execute("SELECT pg_reload_conf()")
            # The postmaster takes the signal when it gets to it; what it then starts has the new rules.
            eventually(lambda: _rules_loaded_at(url) != loaded_before)
            yield
        finally:
            Path(name).write_text(before, "utf-8")
            cursor.execute("SELECT pg_reload_conf()")
            cursor.execute("DROP ROLE ann")


def _rules_loaded_at(url: str) -> object:
    """When the server last read its rules, as a connection that it starts now has it."""
    with administrator(url) as cursor:
        cursor.execute("SELECT pg_conf_load_time()")
        return cursor.fetchone()


def test_server_that_restarted_between_two_queries_is_met_with_a_new_connection(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.read() as tx:
        mine = tx.scalar(text("SELECT pg_backend_pid()"))
    _terminate(postgres_url, mine)

    with database.read() as tx:
        assert tx.scalar(text("SELECT 1")) == 1
    database.close()


def test_server_that_goes_away_in_mid_transaction_is_storage_unavailable(postgres_url: str) -> None:
    database = Database(postgres_url)

    with pytest.raises(StorageUnavailable), database.write() as tx:
        _terminate(postgres_url, tx.scalar(text("SELECT pg_backend_pid()")))
        tx.execute(text("SELECT 1"))
    database.close()


def test_postgres_statements_and_locks_end_by_themselves(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.read() as tx:
        assert tx.scalar(text("SHOW statement_timeout")) == "30s"
        assert tx.scalar(text("SHOW lock_timeout")) == "10s"
        assert tx.scalar(text("SHOW idle_in_transaction_session_timeout")) == "10s"
    database.close()


def test_process_that_is_frozen_in_the_middle_of_a_transaction_does_not_keep_its_locks(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbotctl.core.storage.engine.IDLE_SECONDS", 1)
    frozen, heir = Database(postgres_url), Database(postgres_url)
    with heir.write() as tx:
        tx.execute(text("CREATE TABLE t (n int)"))
        tx.execute(text("INSERT INTO t VALUES (1)"))

    with pytest.raises(StorageUnavailable, match="the connection was lost"), frozen.write() as mine:
        mine.execute(text("SELECT * FROM t FOR UPDATE"))
        with heir.write() as tx:
            tx.execute(text("UPDATE t SET n = 2"))
        mine.execute(text("UPDATE t SET n = 3"))

    with heir.read() as tx:
        assert tx.scalar(text("SELECT n FROM t")) == 2
    frozen.close()
    heir.close()


def test_writer_of_another_process_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    database = Database(f"sqlite:///{file}")
    with database.write() as tx:
        tx.execute(text("CREATE TABLE t (n int)"))
    other = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, lambda: other.execute("COMMIT")).start()

    with database.write() as tx:
        tx.execute(text("INSERT INTO t VALUES (1)"))
    database.close()
    other.close()


def test_databases_are_told_apart_by_where_they_are_and_not_by_who_asks(tmp_path: Path) -> None:
    urls = {
        "postgresql://a:b@db/shop": "postgresql+psycopg2://c@db:5432/shop?sslmode=require",
        "postgresql://a:b@db:5433/shop": "postgres://db:5433/shop",
        "postgresql://db/other": "postgresql://x@db/other",
        "postgresql:///shop?host=/run/a": "postgresql:///shop?host=/run/a",
        f"sqlite:///{tmp_path}/a.db": f"sqlite:///{tmp_path}/x/../a.db",
        f"sqlite:///{tmp_path}/b.db": f"sqlite:///{tmp_path}/b.db",
    }
    for url, same in urls.items():
        assert Database(url).identity == Database(same).identity, url
    assert len({Database(url).identity for url in urls}) == len(urls)


def _terminate(url: str, process: object) -> None:
    """What a restart of the server does to one connection."""
    with administrator(url) as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (process,))
