"""Statements that are compiled once say what SQLAlchemy would have said, on both stores."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, exc, insert, select, update

from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.records.turn import PartState
from chatbotctl.core.storage.engine import Database, insert_or_skip, now
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import businesses
from tests.contract import store

_b = businesses.c
ADD = Prepared(insert(businesses))
ROW = {"name": "bakery", "whatsapp_address": "whatsapp:+15550001111", "backend": "openai"}


def test_values_come_back_as_they_went_in(database: Database) -> None:
    by_name = Prepared(select(businesses).where(_b.name == bindparam("wanted")))
    with database.write() as tx:
        assert ADD.run(tx, **ROW, is_disabled=True, vector_store_ids=["vs_1", "vs_ü"], instructions="50% off\0") == 1
        row = by_name.one(tx, wanted="bakery")
        expected = tx.execute(select(businesses)).one()

    assert tuple(row) == tuple(expected)
    assert (row.is_disabled, row.vector_store_ids, row.model) == (True, ["vs_1", "vs_ü"], None)
    assert row.instructions == "50% off\ufffd"


def test_one_statement_takes_other_values_each_time(database: Database) -> None:
    rename = Prepared(update(businesses).where(_b.name == bindparam("old")).values(disabled_reason="moved"))
    with database.write() as tx:
        ADD.run(tx, **ROW)
        changed = [rename.run(tx, old="bakery", name="café"), rename.run(tx, old="bakery", name="café")]
        alone = rename.run(tx, old="café")

    assert (changed, alone) == ([1, 0], 1)
    assert [(row.name, row.disabled_reason) for row in store.rows(database, businesses)] == [("café", "moved")]


def test_list_in_the_statement_and_the_databases_clock_are_part_of_it(database: Database) -> None:
    known = Prepared(
        select(_b.id, (now() - _b.created_at).label("age")).where(_b.name.in_(["bakery", PartState.READY]))
    )
    with database.write() as tx:
        assert known.first(tx) is None
        ADD.run(tx, **ROW)
        [row] = known.all(tx)

    assert 0 <= row.age < 60


def test_row_that_is_there_already_is_skipped_or_an_error_as_the_statement_says(database: Database) -> None:
    skip = Prepared(insert_or_skip(businesses).on_conflict_do_nothing(index_elements=["name"]).returning(_b.id))
    with database.write() as tx:
        assert skip.first(tx, **ROW) is not None
        assert skip.first(tx, **ROW) is None
    with pytest.raises(exc.IntegrityError) as caught, database.write() as tx:
        ADD.run(tx, **ROW | {"name": "canary-4711"})

    assert "canary-4711" not in str(caught.value)


def test_row_that_must_be_there_and_is_not_is_an_error(database: Database) -> None:
    with pytest.raises(exc.NoResultFound), database.read() as tx:
        Prepared(select(businesses)).one(tx)


def test_statement_that_the_database_cannot_carry_out_is_storage_unavailable(database: Database) -> None:
    elsewhere = Table("elsewhere", MetaData(), Column("id", Integer))

    with pytest.raises(StorageUnavailable, match="a table or a column is missing"), database.read() as tx:
        Prepared(select(elsewhere)).all(tx)
