"""What `db check` finds and `db repair` mends, on both stores: every finding is provoked, and mended or named."""

from __future__ import annotations

import pytest

from chatbotctl.core.storage import consistency
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.database_findings import KINDS
from tests.contract import store
from tests.contract.broken_shop import UNHELD, WRONG, Shop, codes, due, everything, leaving, open_shop, stored


@pytest.fixture
def shop(database: Database) -> Shop:
    return open_shop(database)


def test_a_sound_database_is_found_sound(shop: Shop) -> None:
    assert shop.check() == []


@pytest.mark.parametrize("situation", WRONG)
def test_what_is_wrong_is_found(shop: Shop, situation: str) -> None:
    statements, expected, _ = WRONG[situation]
    shop.run(statements, unheld=situation in UNHELD)

    found = shop.check()

    assert codes(found) == set(expected.split())
    for finding in found:
        assert finding.places, finding.code
        assert len(finding.places) == 1 or finding.code == "orphan", "nothing else is suspected"


@pytest.mark.parametrize("situation", WRONG)
def test_what_can_be_mended_is_mended_and_nothing_is_lost(shop: Shop, situation: str) -> None:
    statements, _, left = WRONG[situation]
    shop.run(statements, unheld=situation in UNHELD)
    before = stored(shop.database)
    on_their_way = leaving(shop.database)

    after_repair = shop.repair(shop.check())

    assert codes(after_repair) == set(left.split())
    assert codes(shop.check()) == set(left.split()), "a second look says the same"
    now_stored = stored(shop.database)
    for table, rows in before.items():
        assert rows <= now_stored[table], "messages, turns and replies stay as they were"
    assert leaving(shop.database) <= on_their_way, "nothing leaves that did not"


@pytest.mark.parametrize("situation", WRONG)
def test_a_second_repair_has_nothing_to_do(shop: Shop, situation: str) -> None:
    statements, _, left = WRONG[situation]
    shop.run(statements, unheld=situation in UNHELD)
    shop.repair(shop.check())
    rows = everything(shop.database)

    assert codes(shop.repair(shop.check())) == set(left.split())

    assert everything(shop.database) == rows


@pytest.mark.parametrize("situation", [name for name in WRONG if name not in UNHELD])
def test_a_repaired_thread_answers_the_next_message_and_no_old_one_twice(shop: Shop, situation: str) -> None:
    database = shop.database
    shop.run(WRONG[situation][0])
    shop.repair(shop.check())
    answered = {row.id for row in store.rows(database, tables.turns)}

    taken = store.take(database, shop.bakery)
    store.make_due(database, taken.conversation_id)
    while taken.conversation_id in due(database):
        turn = store.open_turn(database, taken.conversation_id)
        assert turn.id not in answered
        store.finish(database, turn)

    row = next(row for row in store.rows(database, tables.business_clients) if row.id == taken.conversation_id)
    assert row.done_seq == row.last_seq == taken.seq
    assert codes(shop.check()) <= set(WRONG[situation][2].split())


def test_a_look_sees_one_moment_however_busy_the_database_is(shop: Shop) -> None:
    with consistency.moment(shop.database) as tx:
        before = consistency.count(tx, tables.inbound_messages)
        store.take(shop.database, shop.bakery)
        assert consistency.count(tx, tables.inbound_messages) == before
    with consistency.moment(shop.database) as tx:
        assert consistency.count(tx, tables.inbound_messages) == before + 1


def test_every_finding_that_rows_can_give_is_provoked_here() -> None:
    provoked = {code for _, expected, _ in WRONG.values() for code in expected.split()}
    assert provoked == set(KINDS) - {"damaged", "invalid_index", "unenforced"}


def test_every_finding_says_what_becomes_of_it() -> None:
    for code, kind in KINDS.items():
        assert (kind.remedy is None) != (kind.advice is None), code
