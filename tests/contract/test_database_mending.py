"""How far a repair goes, and what becomes of what was pending in a restored database, on both stores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatbotctl.core.errors import LeaseLost
from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.storage import dead_letters, mending, outbox, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.repair_database import count_pending, hold
from tests.contract import store
from tests.contract.broken_shop import Shop, codes, due, everything, leaving, open_shop, silent, stored

#: An operator wants an ended turn to be gone on with.
RUN_AGAIN = """
    UPDATE turns SET state = 'answered' WHERE id = {turn};
    UPDATE business_clients SET redo = 1 WHERE id = {a}
"""


@pytest.fixture
def shop(database: Database) -> Shop:
    return open_shop(database)


def turns_of_a(shop: Shop) -> list[tuple[Any, ...]]:
    return [
        (row.first_seq, row.upto_seq, row.state, row.error_code)
        for row in sorted(store.rows(shop.database, tables.turns), key=lambda row: row.first_seq)
        if row.conversation_id == shop.names["a"]
    ]


def row_of_a(shop: Shop) -> Any:
    return next(row for row in store.rows(shop.database, tables.business_clients) if row.id == shop.names["a"])


# what is no problem


def test_a_turn_in_the_middle_of_its_work_is_sound(shop: Shop) -> None:
    store.open_turn(shop.database, int(str(shop.names["a"])))
    assert shop.check() == []


def test_an_old_turn_that_is_run_again_is_sound(shop: Shop) -> None:
    shop.run(
        "UPDATE turns SET state = 'answered' WHERE id = {turn}; UPDATE business_clients SET redo = 1 WHERE id = {a}"
    )
    assert shop.check() == []


def test_a_part_that_is_just_leaving_while_its_turn_is_withdrawn_is_sound(shop: Shop) -> None:
    shop.run("UPDATE outbound_messages SET state = 'sending' WHERE id = {part}")
    assert shop.check() == []


def test_a_thread_that_an_operator_holds_is_not_overdue(shop: Shop) -> None:
    shop.run("UPDATE business_clients SET ready_at = {now} - 86400, held_by = 'operator' WHERE id = {a}")
    assert shop.check() == []


# how far a repair goes


def test_what_was_never_brought_to_an_end_becomes_dead_letters(shop: Shop) -> None:
    """The turn under way is behind one that has ended; the message between them was never answered."""
    shop.run("INSERT INTO turns (conversation_id, first_seq, upto_seq, state, epoch) VALUES ({a}, 4, 4, 'done', 0)")
    shop.repair(shop.check())

    assert turns_of_a(shop) == [
        (1, 1, "done", None),
        (2, 2, "done", None),
        (3, 3, "dead", "left_behind"),
        (4, 4, "done", None),
    ]
    row = row_of_a(shop)
    assert (row.done_seq, row.last_seq, row.ready_at) == (4, 4, None)


def test_simulated_and_real_messages_never_share_a_dead_letter(shop: Shop) -> None:
    for simulated in (True, True, False):
        store.take(shop.database, shop.bakery, simulated=simulated)
    shop.run("UPDATE business_clients SET done_seq = 7 WHERE id = {a}")
    shop.repair(shop.check())

    assert [turn[:3] for turn in turns_of_a(shop)][2:] == [(3, 4, "dead"), (5, 6, "dead"), (7, 7, "dead")]


def test_a_dead_letter_has_no_more_messages_than_a_turn(shop: Shop) -> None:
    for _ in range(25):
        store.take(shop.database, shop.bakery)
    shop.run("UPDATE business_clients SET done_seq = 29 WHERE id = {a}")
    shop.repair(shop.check())

    assert [turn[:2] for turn in turns_of_a(shop)][2:] == [(3, 22), (23, 29)]


def test_messages_that_are_gone_become_no_dead_letter(shop: Shop) -> None:
    """There is nothing that could be run again."""
    shop.run(
        "DELETE FROM inbound_messages WHERE conversation_id = {a} AND seq = 2;"
        "DELETE FROM turns WHERE id = {turn}; UPDATE business_clients SET done_seq = 3 WHERE id = {a}"
    )
    shop.repair(shop.check())

    assert turns_of_a(shop)[1:] == [(2, 2, "withdrawn", None), (3, 3, "dead", "left_behind")]


def test_of_a_reply_that_may_have_left_nobody_knows_and_nothing_more_of_it_leaves(shop: Shop) -> None:
    shop.run(
        "UPDATE turns SET state = 'answered' WHERE id = {turn};"
        "UPDATE outbound_messages SET state = 'sending' WHERE id = {part};"
        "INSERT INTO outbound_messages (conversation_id, turn_id, author, part, sender, recipient, body, epoch)"
        " VALUES ({a}, {turn}, 'assistant', 2, 'x', 'y', 'And more.', 0)"
    )
    shop.repair(shop.check())

    parts = [row for row in store.rows(shop.database, tables.outbound_messages) if row.turn_id == shop.names["turn"]]
    assert [(part.part, part.state, part.error_code) for part in parts] == [
        (1, "unknown", "interrupted"),
        (2, "failed", "left_behind"),
    ]


def test_a_thread_that_a_worker_is_at_is_left_to_it(shop: Shop) -> None:
    turn = store.open_turn(shop.database, int(str(shop.names["a"])))
    shop.run("UPDATE business_clients SET reset_seq = 9 WHERE id = {a}")

    left = shop.repair(shop.check())

    assert codes(left) == {"reset_seq_too_high"}
    store.finish(shop.database, turn)
    assert shop.repair(left) == []


def test_a_worker_frozen_past_its_lease_decides_nothing_after_a_repair(shop: Shop) -> None:
    turn = store.open_turn(shop.database, int(str(shop.names["a"])))
    store.expire_lease(shop.database, turn.conversation.id)
    shop.run("UPDATE business_clients SET reset_seq = 9 WHERE id = {a}")
    shop.repair(shop.check())

    with pytest.raises(LeaseLost):
        store.finish(shop.database, turn)


def test_a_customer_who_writes_while_being_removed_is_not_lost(database: Database, shop: Shop) -> None:
    """Of many such races, each ends with a thread that has its customer."""
    for number in range(20):
        address = f"whatsapp:+1555444{number:04}"
        with database.write() as tx:
            client_id = tx.scalar(tables.clients.insert().values(address=address).returning(tables.clients.c.id))
        assert client_id is not None
        together = threading.Barrier(2)

        def remove(client_id: int = client_id, together: threading.Barrier = together) -> None:
            together.wait()
            with database.write() as tx:
                mending.remove_clients(tx, [client_id])

        def write(address: str = address, together: threading.Barrier = together) -> None:
            together.wait()
            store.take(database, shop.bakery, sender=address)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(remove), pool.submit(write)]:
                done.result()

    assert store.count(database, tables.business_clients) == 22
    assert shop.check() == []


# a restored database


def test_nothing_that_was_pending_is_answered_or_posted_by_itself(shop: Shop) -> None:
    database = shop.database
    store.open_turn(database, int(str(shop.names["a"])))
    before = stored(database)
    assert count_pending(database) == 1

    held = hold(database, progress=silent, alone=True)

    assert (held.threads, held.posts, held.busy) == (1, 1, 0)
    assert due(database) == []
    assert leaving(database) == set()
    assert turns_of_a(shop)[2:] == [(3, 4, "dead", "restored")]
    assert [(row.state, row.error_code) for row in store.rows(database, tables.slack_posts)] == [("dead", "restored")]
    row = row_of_a(shop)
    assert (row.done_seq, row.redo, row.ready_at, row.owner, row.lease_until) == (4, 0, None, None, None)
    for table, rows in before.items():
        assert rows <= stored(database)[table]
    assert shop.check() == []


def test_a_reply_that_was_to_leave_may_have_left_since_and_is_looked_for_before_it_is_sent(shop: Shop) -> None:
    database = shop.database
    turn = store.open_turn(database, int(str(shop.names["a"])))
    with database.write() as tx:
        turns.store_answer(tx, turn, Answer(text="Yes."), None)
        outbox.add_reply(tx, turn, ["Yes."], Author.ASSISTANT)
    hold(database, progress=silent, alone=True)
    with database.read() as tx:
        assert [part.state for part in outbox.parts(tx, turn.id)] == ["unknown"]

    with database.write() as tx:
        dead_letters.retry_turn(tx, turn.id)

    with database.read() as tx:
        assert [part.state for part in outbox.parts(tx, turn.id)] == ["sending"], "never `ready`: that is sent at once"


def test_old_turns_that_were_run_again_are_held_too(shop: Shop) -> None:
    shop.run(
        "UPDATE turns SET state = 'answered' WHERE id = {turn}; UPDATE business_clients SET redo = 1 WHERE id = {a}"
    )
    hold(shop.database, progress=silent, alone=True)

    assert [turn[2:] for turn in turns_of_a(shop)] == [("done", None), ("dead", "restored"), ("dead", "restored")]
    assert due(shop.database) == []
    assert shop.check() == []


def test_holding_again_has_nothing_to_do(shop: Shop) -> None:
    hold(shop.database, progress=silent, alone=True)
    rows = everything(shop.database)

    held = hold(shop.database, progress=silent, alone=True)

    assert (held.threads, held.posts) == (0, 0)
    assert everything(shop.database) == rows


def test_where_workers_run_already_their_threads_are_left_to_them(shop: Shop) -> None:
    store.open_turn(shop.database, int(str(shop.names["a"])))

    held = hold(shop.database, progress=silent, alone=False)

    assert (held.threads, held.busy) == (0, 1)
    assert turns_of_a(shop)[2:] == [(3, 4, "open", None)]


def test_the_next_message_of_a_held_thread_is_answered(shop: Shop) -> None:
    hold(shop.database, progress=silent, alone=True)

    taken = store.take(shop.database, shop.bakery)
    turn = store.open_turn(shop.database, taken.conversation_id)

    assert [message.seq for message in turn.messages] == [5]
