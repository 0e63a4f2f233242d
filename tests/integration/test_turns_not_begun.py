"""A conversation whose next turn cannot even be begun: it waits longer each time, is seen, and is in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from structlog.testing import capture_logs

from chatbotctl.core.flow.accept import Accepted, accept
from chatbotctl.core.records.backlog import EntryState, Kind
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import backlog, entry_details, not_begun
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.upkeep.check_database import findings
from chatbotctl.core.wiring import Core
from tests.contract.broken_shop import codes, silent
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import add_business, eventually, message, outcome, running, take_in, work

NEWER = "of-a-newer-version"
CAFE = "whatsapp:+15550003333"


def broken(core: Core, business: Business, backend: str = NEWER) -> None:
    """The business's row holds what this version cannot read (or, again, what it can)."""
    with core.database.write() as tx:
        tx.execute(update(tables.businesses).where(tables.businesses.c.id == business.id).values(backend=backend))


def due_again(core: Core) -> None:
    """Whatever was put off is due now."""
    with core.database.write() as tx:
        tx.execute(update(tables.business_clients).values(ready_at=now() - 1))


def told(core: Core) -> list[dict[str, Any]]:
    """What the timeline says of turns that were not begun."""
    e = tables.events.c
    with core.database.read() as tx:
        return list(tx.scalars(select(e.detail).where(e.kind == not_begun.NOT_BEGUN).order_by(e.id)))


def take_quietly(core: Core, **fields: Any) -> Accepted:
    """A message whose wake-up got lost."""
    return accept(core.services, message(**fields), wake=False)


def test_it_is_put_off_longer_each_time_and_answered_once_it_can_be(any_site: Core, fake_twilio: FakeTwilio) -> None:
    bakery = add_business(any_site)
    accepted = take_in(any_site)
    broken(any_site, bakery)

    with capture_logs() as logs:
        first = work(any_site, accepted.conversation_id)
        assert first is not None and 2.5 <= first <= 5
        assert work(any_site, accepted.conversation_id) is None, "it is not due"
        for _ in range(3):
            due_again(any_site)
            later = work(any_site, accepted.conversation_id)
    assert later is not None and later >= 20

    failed = [entry for entry in logs if entry["event"] == "turn_not_begun"]
    assert [entry["error"] for entry in failed] == ["ValueError"] * 4
    assert failed[0]["conversation"] == accepted.conversation_id
    assert [each["error"] for each in told(any_site)] == ["ValueError"] * 4
    broken(any_site, bakery, "openai")
    due_again(any_site)
    assert work(any_site, accepted.conversation_id) is None
    assert outcome(any_site, accepted).result is Result.REPLIED
    assert len(fake_twilio.sent()) == 1


def test_the_timeline_does_not_grow_for_ever(any_site: Core) -> None:
    bakery = add_business(any_site)
    accepted = take_in(any_site)
    broken(any_site, bakery)
    for _ in range(not_begun.MOST_COUNTED + 3):
        due_again(any_site)
        wait = work(any_site, accepted.conversation_id)
    assert wait is not None and wait >= 150
    assert len(told(any_site)) == not_begun.MOST_COUNTED


def test_operators_see_that_it_is_put_off_and_why(any_site: Core) -> None:
    bakery = add_business(any_site)
    accepted = take_in(any_site)
    broken(any_site, bakery)
    work(any_site, accepted.conversation_id)

    with any_site.database.read() as tx:
        depths = backlog.count(tx).total.turns
        (entry,) = backlog.listed(tx, states=list(EntryState)[:4], kind=Kind.TURN, business=None, limit=9)
        details = entry_details.find(tx, entry.id)
    assert (depths["postponed"], depths["waiting"]) == (1, 0)
    assert (entry.id.kind, entry.state, entry.code) == (Kind.THREAD, EntryState.POSTPONED, "turn_not_begun")
    assert entry.next_in is not None and entry.next_in > 0
    assert details is not None and "db check" in (details.error or "")
    assert [(each.kind, each.detail["error"]) for each in details.events] == [("turn_not_begun", "ValueError")]
    assert codes(findings(any_site.database, progress=silent, moment=0)) == {"turn_not_begun"}
    broken(any_site, bakery, "openai")
    due_again(any_site)
    work(any_site, accepted.conversation_id)
    assert findings(any_site.database, progress=silent, moment=0) == [], "it is over"


def test_as_many_as_a_worker_looks_up_at_once_keep_nobody_else_waiting(any_site: Core) -> None:
    bakery, cafe = add_business(any_site), add_business(any_site, "cafe", CAFE)
    for number in range(2 * any_site.settings.worker.concurrency):
        take_quietly(any_site, sender=f"whatsapp:+1555333{number:04}")
    last = take_quietly(any_site, receiver=CAFE)
    broken(any_site, bakery)
    due_again(any_site)
    with any_site.database.write() as tx:
        tx.execute(
            update(tables.business_clients)
            .where(tables.business_clients.c.business_id == cafe.id)
            .values(ready_at=now() - 0.5)
        )
    with running(any_site):
        eventually(lambda: outcome(any_site, last).result is Result.REPLIED, seconds=10)


def test_a_begun_turn_keeps_its_backoff_when_the_customer_writes_on(any_site: Core) -> None:
    bakery = add_business(any_site)
    accepted = take_in(any_site)
    with any_site.database.write() as tx:
        values = {"conversation_id": accepted.conversation_id, "first_seq": 1, "upto_seq": 1, "epoch": 0}
        tx.execute(insert(tables.turns).values(**values))
    broken(any_site, bakery)
    wait = work(any_site, accepted.conversation_id)
    broken(any_site, bakery, "openai")
    take_in(any_site, "Hello?")
    assert wait is not None and wait > 2
    assert work(any_site, accepted.conversation_id) is None, "still put off"


def test_a_turn_that_can_be_neither_run_nor_ended_is_put_off(any_site: Core) -> None:
    add_business(any_site)
    accepted = take_in(any_site)
    with any_site.database.write() as tx:
        values = {"conversation_id": accepted.conversation_id, "first_seq": 1, "upto_seq": 1, "epoch": 0}
        turn = insert(tables.turns).values(**values, state="answered", attempts=50)
        turn_id = tx.scalar(turn.returning(tables.turns.c.id))
        part = {"conversation_id": accepted.conversation_id, "turn_id": turn_id, "state": NEWER, "author": "assistant"}
        addresses = {"sender": CAFE, "recipient": CAFE, "body": "Yes", "epoch": 0}
        tx.execute(insert(tables.outbound_messages).values(**part, **addresses))
    with capture_logs() as logs:
        wait = work(any_site, accepted.conversation_id)
    assert wait is not None and wait > 2, "and not only until its lease runs out"
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["turn_crashed", "turn_not_begun"]


def test_text_that_is_no_text_does_not_pass_for_a_database_that_is_away(site: Core) -> None:
    add_business(site)
    accepted, other = take_in(site), take_in(site, sender="whatsapp:+15552229999")
    with site.database.write() as tx:
        tx.execute(
            text("UPDATE inbound_messages SET body = CAST(x'ff' AS TEXT) WHERE conversation_id = :id"),
            {"id": accepted.conversation_id},
        )
    with capture_logs() as logs, running(site):
        eventually(lambda: told(site))
        eventually(lambda: outcome(site, other).result is Result.REPLIED)
    assert "worker_paused" not in [entry["event"] for entry in logs]
    with site.database.read() as tx:
        assert tx.scalar(select(func.count()).where(tables.business_clients.c.owner.is_not(None))) == 0


@pytest.mark.parametrize("kind", ["received", "reset", "retried", "dropped", "duplicate", "delivery"])
def test_what_others_do_meanwhile_does_not_make_it_look_mended(any_site: Core, kind: str) -> None:
    bakery = add_business(any_site)
    accepted = take_in(any_site)
    broken(any_site, bakery)
    work(any_site, accepted.conversation_id)
    with any_site.database.write() as tx:
        tx.execute(insert(tables.events).values(conversation_id=accepted.conversation_id, kind=kind))
    assert codes(findings(any_site.database, progress=silent, moment=0)) == {"turn_not_begun"}
