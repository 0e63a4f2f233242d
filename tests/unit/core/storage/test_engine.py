"""Database URLs, and what each kind of database does when it is not there, not one, or full of writers."""

from __future__ import annotations

import socket
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from chatbotctl.core.errors import ConfigurationError, StorageUnavailable
from chatbotctl.core.storage import migrate
from chatbotctl.core.storage.engine import Database, database_url
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


def test_explicit_driver_is_kept() -> None:
    assert database_url("postgresql+psycopg://h/d").drivername == "postgresql+psycopg"


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


def test_folder_that_is_not_there_is_storage_unavailable(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'missing' / 'x.db'}")

    with pytest.raises(StorageUnavailable, match="not usable"), database.write():
        pass


@pytest.mark.parametrize("content", [b"this is no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_file_that_is_no_database_is_storage_unavailable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")

    with pytest.raises(StorageUnavailable, match="not usable"):
        migrate.state(database)
    database.close()


def test_server_that_is_not_there_is_storage_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        database = Database(f"postgresql://u:canary@127.0.0.1:{closed.getsockname()[1]}/d")
        with pytest.raises(StorageUnavailable, match="not usable") as caught, database.read():
            pass

    assert "canary" not in f"{caught.value} {caught.value.hint}"


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
    database.close()


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


def _terminate(url: str, process: object) -> None:
    """What a restart of the server does to one connection."""
    with administrator(url) as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", (process,))
