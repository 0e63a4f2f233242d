"""The door to the database on both stores: transactions, the clock, and words for a database that fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import exc, select, text

from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.storage import businesses
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database, now
from tests.contract import store
from tests.installs import add_business, message


def test_exception_rolls_everything_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        businesses.add(tx, name="bakery", whatsapp_address="whatsapp:+15550001111", values={})
        raise ZeroDivisionError

    assert store.count(database, tables.businesses) == 0


def test_clock_is_the_seconds_since_1970_utc_and_goes_on_inside_a_transaction(database: Database) -> None:
    with database.write() as tx:
        first = tx.scalar(select(now()))
        time.sleep(0.02)
        second = tx.scalar(select(now()))

    assert first is not None and second is not None
    assert abs(first - time.time()) < 60
    assert second > first


def test_many_threads_write_at_once_and_none_is_lost(database: Database) -> None:
    bakery = add_business(database)
    together = threading.Barrier(16)

    def write(number: int) -> None:
        together.wait()
        for _ in range(5):
            store.take(database, bakery, message(sender=f"whatsapp:+1555222{number:04}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))

    assert store.count(database, tables.inbound_messages) == 80
    assert {row.last_seq for row in store.rows(database, tables.business_clients)} == {5}


def test_mistake_of_ours_passes_as_it_is(database: Database) -> None:
    with pytest.raises(exc.IntegrityError), database.write() as tx:
        for _ in range(2):
            tx.execute(
                tables.businesses.insert().values(name="x", whatsapp_address="whatsapp:+15550001111", backend="openai")
            )


def test_error_never_quotes_what_a_customer_wrote(database: Database) -> None:
    with pytest.raises(exc.IntegrityError) as caught, database.write() as tx:
        for number in range(2):
            tx.execute(
                tables.inbound_messages.insert().values(
                    sid=f"SM{number}", conversation_id=404, seq=1, sender="s", body="canary-8841", kind="text",
                    media=[], parameters={},
                )
            )  # fmt: skip

    assert "canary" not in f"{caught.value} {caught.value!r}"


def test_table_that_is_away_is_storage_unavailable(database: Database) -> None:
    """As while a backup is being restored: whoever looks again and again must live through it."""
    with pytest.raises(StorageUnavailable), database.read() as tx:
        tx.execute(text("SELECT * FROM no_such_table"))
