"""What PostgreSQL's catalogue says of indexes and constraints that it does not hold the rows to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatbotctl.core.storage import integrity
from chatbotctl.core.storage.engine import Database
from tests import installs


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    installs.migrate_database(postgres_url)
    opened = Database(postgres_url)
    yield opened
    opened.close()


def run(database: Database, statement: str) -> None:
    with database.write() as tx:
        tx.exec_driver_sql(statement)


def test_sound_catalogue_has_nothing_to_tell(database: Database) -> None:
    with database.read() as tx:
        assert integrity.invalid_indexes(tx) == []
        assert integrity.unenforced(tx) == []


def test_index_whose_building_broke_off_is_named(database: Database) -> None:
    run(database, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_turns_unfinished'::regclass")
    with database.read() as tx:
        assert integrity.invalid_indexes(tx) == ["ix_turns_unfinished"]


def test_constraint_that_was_never_validated_is_named(database: Database) -> None:
    run(database, "ALTER TABLE turns DROP CONSTRAINT fk_turns_conversation_id")
    run(
        database,
        "ALTER TABLE turns ADD CONSTRAINT fk_turns_conversation_id FOREIGN KEY (conversation_id)"
        " REFERENCES business_clients NOT VALID",
    )
    with database.read() as tx:
        assert integrity.unenforced(tx) == ["fk_turns_conversation_id"]


def test_constraint_whose_triggers_are_off_is_named(database: Database) -> None:
    """As `pg_restore --disable-triggers` leaves it when it breaks off."""
    run(database, "ALTER TABLE events DISABLE TRIGGER ALL")
    with database.read() as tx:
        assert integrity.unenforced(tx) == ["fk_events_conversation_id"]
