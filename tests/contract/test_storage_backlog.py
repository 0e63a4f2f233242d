"""What `queue` reads, asked of every store. What its commands make of it is their own tests'."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from chatbotctl.core.records.backlog import Entry, EntryId, EntryState, Kind
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import Failure, TurnState
from chatbotctl.core.storage import backlog, entry_details, slack_posts, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from tests.contract.store import open_turn, take
from tests.installs import add_business

ANA, BEN, CLEO = (f"whatsapp:+155522200{number:02}" for number in range(3))
DEAD, RUNNING, THREAD = EntryId(Kind.TURN, 1), EntryId(Kind.TURN, 2), EntryId(Kind.THREAD, 3)
DEAD_POST, OWED_POST = EntryId(Kind.SLACK, 1), EntryId(Kind.SLACK, 2)
STATES = {
    DEAD: EntryState.DEAD,
    RUNNING: EntryState.RUNNING,
    THREAD: EntryState.WAITING,
    DEAD_POST: EntryState.DEAD,
    OWED_POST: EntryState.WAITING,
}


@pytest.fixture
def bakery(database: Database) -> Business:
    """A business with a dead turn (Ana's), a running one (Ben's), a message without one (Cleo's) and two posts."""
    bakery = add_business(database)
    failed = open_turn(database, take(database, bakery, sender=ANA).conversation_id)
    with database.write() as tx:
        turns.finish(tx, failed, TurnState.DEAD, Failure(code="assistant_failed", message="It failed for good."))
    bens = take(database, bakery, sender=BEN).conversation_id
    open_turn(database, bens)
    take(database, bakery, sender=CLEO)
    with database.write() as tx:
        for text in ("Yes.", "No."):
            slack_posts.owe(tx, conversation_id=bens, lane="c1", kind="reply", title="Assistant", text=text)
        dead = {"state": PostState.DEAD, "error_code": "channel_gone"}
        tx.execute(update(tables.slack_posts).where(tables.slack_posts.c.id == DEAD_POST.number).values(dead))
    return bakery


def listed(database: Database, business: Business, *, kind: Kind | None = None) -> dict[EntryId, Entry]:
    with database.read() as tx:
        found = backlog.listed(tx, states=list(EntryState), kind=kind, business=business, limit=10)
    return {entry.id: entry for entry in found}


def test_everything_that_is_not_done_is_listed_with_its_state(database: Database, bakery: Business) -> None:
    assert {id_: entry.state for id_, entry in listed(database, bakery).items()} == STATES
    assert listed(database, bakery, kind=Kind.SLACK).keys() == {DEAD_POST, OWED_POST}
    assert listed(database, add_business(database, name="nova", number="whatsapp:+15550002222")) == {}


def test_turn_that_is_put_off_says_why(database: Database, bakery: Business) -> None:
    turn = open_turn(database, take(database, bakery, sender="whatsapp:+15552220009").conversation_id)
    with database.write() as tx:
        turns.postpone(tx, turn, 60.0, code="send_failed")

    entry = listed(database, bakery)[EntryId(Kind.TURN, turn.id)]
    assert (entry.state, entry.code) == (EntryState.POSTPONED, "send_failed")


def test_it_is_counted_by_its_state(database: Database, bakery: Business) -> None:
    with database.read() as tx:
        counted = backlog.count(tx, bakery)
        assert backlog.is_at_work(tx)
    assert (counted.total.turns["dead"], counted.total.turns["running"], counted.total.turns["due"]) == (1, 1, 1)
    assert (counted.total.slack["dead"], counted.total.slack["owed"]) == (1, 1)


@pytest.mark.parametrize("id_", STATES, ids=str)
@pytest.mark.usefixtures("bakery")
def test_each_can_be_looked_at_by_its_number(database: Database, id_: EntryId) -> None:
    with database.read() as tx:
        details = entry_details.find(tx, id_)
    assert details is not None
    assert (details.entry.id, details.entry.state) == (id_, STATES[id_])


@pytest.mark.parametrize(
    ("kind", "code", "found"),
    [
        (Kind.TURN, None, [DEAD.number]),
        (Kind.TURN, "assistant_failed", [DEAD.number]),
        (Kind.TURN, "63016", []),
        (Kind.SLACK, None, [DEAD_POST.number]),
        (Kind.SLACK, "channel_gone", [DEAD_POST.number]),
        (Kind.SLACK, "ratelimited", []),
    ],
)
def test_dead_letters_are_found_by_what_they_failed_with(
    database: Database, bakery: Business, kind: Kind, code: str | None, found: list[int]
) -> None:
    with database.read() as tx:
        assert backlog.dead_ids(tx, kind, after=0, business=bakery, code=code, limit=10) == found
        assert backlog.dead_ids(tx, kind, after=1, business=bakery, code=code, limit=10) == []
