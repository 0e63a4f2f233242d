"""What the thread cache should hold, read in pages and by customer, on both stores."""

from __future__ import annotations

import pytest

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.storage import cached_threads, conversations
from chatbotctl.core.storage.engine import Database
from tests.contract.store import take
from tests.installs import BUSINESS, add_business

OTHER = "whatsapp:+15550009999"


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def customer(number: int) -> str:
    return f"whatsapp:+1555222000{number}"


def begin(database: Database, business: Business, number: int, *, thread: str | None = None) -> int:
    """A conversation with a customer; returns its id."""
    conversation_id = take(
        database, business, sender=customer(number), receiver=business.whatsapp_address
    ).conversation_id
    if thread is not None:
        with database.write() as tx:
            conversations.set_ai_thread(tx, conversation_id, thread)
    return conversation_id


def entry(number: int, thread: str, receiver: str = BUSINESS) -> CachedThread:
    return CachedThread(sender=customer(number), receiver=receiver, thread_id=thread)


def test_only_conversations_with_a_thread_have_an_entry(database: Database, bakery: Business) -> None:
    first = begin(database, bakery, 1, thread="conv_1")
    begin(database, bakery, 2)
    with database.read() as tx:
        assert cached_threads.count(tx) == 1
        assert cached_threads.page(tx, after=0, limit=10) == {first: entry(1, "conv_1")}
        assert cached_threads.ai_threads(tx, after=0, upto=first + 10) == {first: "conv_1"}
        assert cached_threads.of_customers(tx, [customer(1), customer(2)]) == {first: entry(1, "conv_1")}
        assert cached_threads.keys_of_customers(tx, [customer(1), customer(2)]) == {entry(1, "").key}


def test_pages_follow_each_other_in_the_order_of_ids(database: Database, bakery: Business) -> None:
    ids = [begin(database, bakery, number, thread=f"conv_{number}") for number in range(5)]
    with database.read() as tx:
        assert list(cached_threads.page(tx, after=0, limit=2)) == ids[:2]
        assert list(cached_threads.page(tx, after=ids[1], limit=2)) == ids[2:4]
        assert list(cached_threads.page(tx, after=ids[3], limit=2)) == ids[4:]
        assert cached_threads.page(tx, after=ids[4], limit=2) == {}
        assert list(cached_threads.ai_threads(tx, after=ids[1], upto=ids[3])) == ids[2:4]


def test_customer_of_two_businesses_has_two_entries(database: Database, bakery: Business) -> None:
    florist = add_business(database, "florist", OTHER)
    here = begin(database, bakery, 1, thread="conv_a")
    there = begin(database, florist, 1, thread="conv_b")
    with database.read() as tx:
        assert cached_threads.of_customers(tx, [customer(1)]) == {
            here: entry(1, "conv_a"),
            there: entry(1, "conv_b", OTHER),
        }
        assert cached_threads.keys_of_customers(tx, [customer(1)]) == {entry(1, "").key, entry(1, "", OTHER).key}


def test_nobody_asked_for_is_nobody_found(database: Database, bakery: Business) -> None:
    begin(database, bakery, 1, thread="conv_1")
    with database.read() as tx:
        assert cached_threads.of_customers(tx, []) == {}
        assert cached_threads.keys_of_customers(tx, [customer(9)]) == set()
