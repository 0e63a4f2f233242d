"""The schema is what all migrations make of an empty database, and no version works on one that does not fit it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from chatbotctl.core.errors import SchemaMismatch
from chatbotctl.core.storage import engine, migrate
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import metadata
from tests.installs import add_business


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: str = request.getfixturevalue("postgres_url")
    return server


@pytest.fixture
def empty(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def test_schema_is_what_all_migrations_make(empty: Database) -> None:
    migrate.upgrade(empty)

    with empty.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def test_schemas_made_either_way_have_the_same_defaults_and_indexes(empty: Database, tmp_path: Path) -> None:
    """What the comparison above does not look at: server defaults, and the conditions of partial indexes."""
    migrate.upgrade(empty)
    migrated = _described(empty)
    with empty.write() as tx:
        metadata.drop_all(tx)
    with empty.write() as tx:
        metadata.create_all(tx)

    assert _described(empty) == migrated


def test_upgrading_twice_changes_nothing(empty: Database) -> None:
    first = migrate.upgrade(empty)
    bakery = add_business(empty)

    assert migrate.upgrade(empty) == first
    assert first.fits
    with empty.read() as tx:
        assert tx.scalar(text("SELECT name FROM businesses")) == bakery.name


def test_empty_database_is_refused_with_what_to_type(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match="no tables yet") as caught:
        migrate.require_fitting(empty)

    assert "chatbotctl init" in str(caught.value.hint)


def test_migrated_database_fits(empty: Database) -> None:
    migrate.upgrade(empty)

    migrate.require_fitting(empty)


def test_schema_of_a_newer_version_is_refused_and_left_alone(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaMismatch, match=r"9999.* newer") as caught:
        migrate.require_fitting(empty)
    with pytest.raises(SchemaMismatch, match=r"9999.* newer"):
        migrate.upgrade(empty)

    assert caught.value.hint == "Upgrade chatbotctl on this machine."
    assert migrate.state(empty).current == "9999"


def test_many_threads_upgrade_at_once(url: str) -> None:
    together = threading.Barrier(6)

    def upgrade(_: int) -> bool:
        database = Database(url)
        together.wait()
        fits = migrate.upgrade(database).fits
        database.close()
        return fits

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(upgrade, range(6))) == [True] * 6


def test_many_processes_upgrade_at_once(url: str) -> None:
    program = (
        "import sys; from chatbotctl.core.storage import engine, migrate; "
        "print(migrate.upgrade(engine.Database(sys.argv[1])).fits)"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    ended = [process.communicate(timeout=60) for process in running]

    assert [out.strip() for out, _ in ended] == ["True"] * 3, ended


def test_migration_waits_for_another_longer_than_a_message_would(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process is making a large table's index."""
    monkeypatch.setattr(engine, "BUSY_SECONDS", 1)
    monkeypatch.setattr(engine, "STATEMENT_SECONDS", 1)
    first, second = Database(postgres_url), Database(postgres_url)
    with ThreadPoolExecutor(1) as pool:
        with first.write() as tx:
            tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": migrate.ADVISORY_LOCK})
            upgrading = pool.submit(migrate.upgrade, second)
            with pytest.raises(TimeoutError):
                upgrading.result(timeout=1.5)
        assert upgrading.result(timeout=20).fits
    for database in (first, second):
        database.close()


def test_migration_gives_up_waiting_for_a_table_that_somebody_has_locked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody who uses the table would wait behind it."""
    monkeypatch.setattr(engine, "BUSY_SECONDS", 1)
    database = Database(postgres_url)
    with database.write() as tx:
        migrate._alone(tx)
        assert tx.scalar(text("SHOW lock_timeout")) == "1s"
        assert tx.scalar(text("SHOW statement_timeout")) == "0"
    database.close()


def _conditions(index: ReflectedIndex) -> str:
    return str({name: str(value) for name, value in index.get("dialect_options", {}).items()})


def _described(database: Database) -> dict[str, object]:
    with database.read() as tx:
        looked_at = inspect(tx)
        return {
            table: (
                {column["name"]: str(column["default"]) for column in looked_at.get_columns(table)},
                sorted(
                    (str(index["name"]), str(index["column_names"]), _conditions(index))
                    for index in looked_at.get_indexes(table)
                ),
                sorted((str(key["name"]), str(key["options"])) for key in looked_at.get_foreign_keys(table)),
                sorted(str(unique["name"]) for unique in looked_at.get_unique_constraints(table)),
            )
            for table in metadata.tables
        }
