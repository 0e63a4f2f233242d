"""An install between scripted vendors: what can be done to it, what there is in it, and the promises that must hold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from chatbotctl.core.config import Key
from chatbotctl.core.errors import BusinessDisabled, StorageUnavailable
from chatbotctl.core.flow.accept import accept
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.worker import work_once
from chatbotctl.core.records.message import InboundMessage
from chatbotctl.core.records.turn import PartState, TurnState
from chatbotctl.core.storage import businesses, conversations, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from tests.installs import add_business, message
from tests.integration import engine_model as model
from tests.integration.engine_model import (
    Killed,
    Moment,
    Moments,
    Process,
    Provider,
    QuickDatabase,
    WatchedDatabase,
    WhatsApp,
)

SHOPS = {"bakery": "whatsapp:+15550001111", "forge": "whatsapp:+15550002222"}
CUSTOMERS = ("whatsapp:+15552220001", "whatsapp:+15552220002")
APOLOGY = "Sorry."
FINAL = (TurnState.DONE, TurnState.DEAD, TurnState.WITHDRAWN)
#: What such an install is set up with.
FLAGS: dict[Key, object] = {
    ("worker", "attempts"): 3,
    # A turn answers all that waits, and nobody waits for more.
    ("worker", "quiet_seconds"): 1,
    ("worker", "max_wait_seconds"): 0,
    # What Slack is owed is counted; nobody posts it.
    ("slack", "bot_token"): "xoxb-test",
    ("slack", "api_base_url"): "http://127.0.0.1:1/api/",
}
LOOKED_AT: tuple[Any, ...] = (
    tables.business_clients,
    tables.inbound_messages,
    tables.turns,
    tables.outbound_messages,
    tables.slack_posts,
    tables.events,
)


@dataclass(frozen=True)
class Plan:
    """What happens at the nth of these moments of the next run."""

    moment: Moment
    nth: int
    what: str


class EngineSite:
    """One install from its first message to its rest."""

    def __init__(self, services: Services, url: str) -> None:
        self.services = services
        self.database = QuickDatabase(url)
        self.moments = Moments()
        self.watched = WatchedDatabase(url, self.moments)
        self.provider = Provider(self.database, self.moments)
        self.whatsapp = WhatsApp(self.moments)
        for name, number in SHOPS.items():
            # One has its conversations at the provider, the other in its own transcript alone.
            backend = "openai" if name == "bakery" else "chat"
            add_business(self.database, name, number, backend=backend, apology=APOLOGY)
        self.names = (f"worker-{number}" for number in itertools.count(1))
        self.processes = [self.new_process()]
        self.delivered: list[InboundMessage] = []
        #: sid -> conversation and place in it, as they were told.
        self.acknowledged: dict[str, tuple[int, int]] = {}
        #: Names of all that was done to the install.
        self.injuries: set[str] = set()
        #: Parts that a reset or a disabling kept from leaving.
        self.overtaken: set[int] = set()
        self.seen: dict[str, list[Any]] | None = None

    def new_process(self) -> Process:
        return model.process(next(self.names), self.services, self.watched, self.provider, self.whatsapp)

    def close(self) -> None:
        self.watched.close()
        self.database.close()

    # what happens

    def write(self, shop: str, who: str, *, much: bool, plans: Sequence[Plan] = ()) -> None:
        body = f"m{len(self.delivered) + 1}" + (" much" if much else "")
        written = message(body, sid=f"SM{len(self.delivered) + 1}", sender=who, receiver=SHOPS[shop])
        self.delivered.append(written)
        self.take_in(written, plans)

    def take_in(self, written: InboundMessage, plans: Sequence[Plan]) -> None:
        process = self.one_of_processes(0)
        with self.moments.planned([(plan.moment, plan.nth, getattr(model, plan.what)) for plan in plans]):
            try:
                taken = accept(process.services, written)
            except BusinessDisabled:
                assert not self.is_stored(written.sid), "a copy of what is stored is answered as the first"
            except StorageUnavailable:
                assert plans, "the database was not away"
            except Killed:
                self.processes.remove(process)
            else:
                place = (taken.conversation_id, taken.seq)
                assert self.acknowledged.setdefault(written.sid, place) == place

    def run(self, worker: Process, conversation: int, plans: Sequence[Plan]) -> float | None:
        planned = [(plan.moment, plan.nth, self.action(plan.what, conversation)) for plan in plans]
        with self.moments.planned(planned):
            try:
                return work_once(worker.services, conversation, owner=worker.name)
            except StorageUnavailable:
                assert plans, "the database was not away"
            except Killed:
                self.processes = [each for each in self.processes if each is not worker]
        return None

    def action(self, what: str, conversation: int) -> Callable[[], None]:
        """What a plan does, noted as an injury once it is done."""
        newest = self.newest_of(conversation)
        shop = next(name for name, number in SHOPS.items() if number == newest.receiver)
        others: dict[str, Callable[[], object]] = {
            "writes_on": lambda: self.write(shop, newest.sender, much=False),
            "delivered_again": lambda: self.take_in(newest, []),
            "reset": lambda: self.reset(conversation),
            "disabled": lambda: self.set_disabled(shop, True),
            "frozen": lambda: self.heir_takes_over(conversation),
        }

        def act() -> None:
            self.injuries.add(what)
            others.get(what, getattr(model, what, None))()  # type: ignore[misc]

        return act

    def heir_takes_over(self, conversation: int) -> None:
        """The worker is frozen for longer than its lease; another one does all that there is to do."""
        self.expire_leases()
        heir = self.new_process()
        while work_once(heir.services, conversation, owner=heir.name) == 0.0:
            pass

    def reset(self, conversation: int) -> None:
        self.injuries.add("reset")
        self.overtake(lambda part: part.conversation_id == conversation)
        with self.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, conversation))

    def set_disabled(self, shop: str, disabled: bool) -> None:
        if disabled:
            self.injuries.add("disabled")
            self.overtake(lambda part: part.sender == SHOPS[shop])
        with self.database.write() as tx:
            businesses.set_disabled(tx, businesses.by_name(tx, shop), disabled)

    def overtake(self, is_theirs: Callable[[Any], bool]) -> None:
        """What has not begun to leave of these parts never will."""
        parts = [part for part in self.rows(tables.outbound_messages) if is_theirs(part)]
        self.overtaken |= {part.id for part in parts if part.state == PartState.READY}

    def expire_leases(self) -> None:
        self.update_all("lease_until")

    def make_due(self) -> None:
        self.update_all("ready_at")

    def update_all(self, column: str) -> None:
        clock = tables.business_clients.c[column]
        with self.database.write() as tx:
            tx.execute(update(tables.business_clients).where(clock.is_not(None)).values({column: now() - 1}))

    # what there is

    def one_of_processes(self, which: int) -> Process:
        if not self.processes:
            self.processes.append(self.new_process())
        return self.processes[which % len(self.processes)]

    def conversations(self) -> list[int]:
        return [row.id for row in self.rows(tables.business_clients)]

    def due(self) -> list[int]:
        with self.database.read() as tx:
            return [due.conversation_id for due in turns.due(tx, 100)]

    def newest_of(self, conversation: int) -> InboundMessage:
        sid = [row.sid for row in self.rows(tables.inbound_messages) if row.conversation_id == conversation][-1]
        return next(each for each in self.delivered if each.sid == sid)

    def is_stored(self, sid: str) -> bool:
        return any(row.sid == sid for row in self.rows(tables.inbound_messages))

    def rows(self, table: Any) -> list[Any]:
        """All rows of a table; while promises are checked, as they were when the checks began."""
        if self.seen is not None:
            return self.seen[table.name]
        with self.database.read() as tx:
            return list(tx.execute(select(table).order_by(table.c.id)))

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Whatever is read inside the block is read once."""
        with self.database.read() as tx:
            self.seen = {table.name: list(tx.execute(select(table).order_by(table.c.id))) for table in LOOKED_AT}
        try:
            yield
        finally:
            self.seen = None

    # what holds

    def the_promises_hold(self) -> None:
        with self.one_look():
            self.messages_are_stored_once_and_in_order()
            self.turns_follow_each_other_and_one_at_most_is_unfinished()
            self.only_what_may_leave_is_sent_and_once()
            self.replies_are_sent_in_the_order_of_the_messages()
        assert self.provider.asked_in_vain == []

    def messages_are_stored_once_and_in_order(self) -> None:
        stored = self.rows(tables.inbound_messages)
        places = {row.sid: (row.conversation_id, row.seq) for row in stored}
        assert len(places) == len(stored)
        assert self.acknowledged.items() <= places.items()
        for conversation in self.rows(tables.business_clients):
            seqs = [row.seq for row in stored if row.conversation_id == conversation.id]
            assert seqs == list(range(1, conversation.last_seq + 1))
        customers = [row for row in self.rows(tables.slack_posts) if row.kind == "customer"]
        assert Counter(row.inbound_id for row in customers) == Counter(row.id for row in stored)

    def turns_follow_each_other_and_one_at_most_is_unfinished(self) -> None:
        crashes = [row.turn_id for row in self.rows(tables.events) if row.detail.get("code") == "error"]
        assert crashes == [], "a fault of our own"
        for conversation in self.rows(tables.business_clients):
            mine = [row for row in self.rows(tables.turns) if row.conversation_id == conversation.id]
            upto = 0
            for turn in sorted(mine, key=lambda row: row.first_seq):
                assert turn.first_seq == upto + 1
                upto = turn.upto_seq
            unfinished = [turn for turn in mine if turn.state not in FINAL]
            assert len(unfinished) <= 1
            assert conversation.done_seq == max((turn.upto_seq for turn in mine if turn.state in FINAL), default=0)
            replies = [row for row in self.rows(tables.slack_posts) if row.kind == "reply"]
            told = [row for row in replies if row.conversation_id == conversation.id]
            assert len(told) <= sum(turn.state in FINAL for turn in mine)

    def only_what_may_leave_is_sent_and_once(self) -> None:
        parts = self.rows(tables.outbound_messages)
        left = (PartState.SENDING, PartState.SENT, PartState.UNKNOWN)
        may_have_left = Counter((row.sender, row.recipient, row.body) for row in parts if row.state in left)
        accepted = Counter((each.sender, each.recipient, each.body) for each in self.whatsapp.accepted)
        assert accepted <= may_have_left
        sids = [row.sid for row in parts if row.state == PartState.SENT]
        assert len(set(sids)) == len(sids)
        assert set(sids) <= {each.sid for each in self.whatsapp.accepted}
        left_all_the_same = {row.id for row in parts if row.state in left} & self.overtaken
        assert left_all_the_same == set(), "a reset or a disabling had overtaken them"

    def replies_are_sent_in_the_order_of_the_messages(self) -> None:
        place = {turn.id: (turn.conversation_id, turn.first_seq) for turn in self.rows(tables.turns)}
        places = {row.body: (*place[row.turn_id], row.part) for row in self.rows(tables.outbound_messages)}
        last: dict[int, tuple[int, ...]] = {}
        for each in self.whatsapp.accepted:
            if each.body != APOLOGY:
                conversation, *where = places[each.body]
                assert tuple(where) > last.get(conversation, ())
                last[conversation] = tuple(where)

    def come_to_rest(self) -> None:
        """All injuries are over: leases run out, waits end, and a new process does what there is to do."""
        for shop in SHOPS:
            with self.database.write() as tx:
                businesses.set_disabled(tx, businesses.by_name(tx, shop), False)
        worker = self.new_process()
        for _ in range(50):
            self.expire_leases()
            self.make_due()
            for conversation in self.due():
                self.run(worker, conversation, [])
        assert self.due() == [], "it never comes to rest"

    def everything_has_come_to_its_end(self) -> None:
        """The promises to the letter: call `come_to_rest` first."""
        self.the_promises_hold()
        for conversation in self.rows(tables.business_clients):
            assert conversation.done_seq == conversation.last_seq
            assert conversation.ready_at is None
        stored = self.rows(tables.inbound_messages)
        parts = self.rows(tables.outbound_messages)
        assert {row.state for row in parts}.isdisjoint({PartState.READY, PartState.SENDING})
        for turn in self.rows(tables.turns):
            mine = [row.state for row in parts if row.turn_id == turn.id]
            if turn.state == TurnState.DONE:
                assert set(mine) == {PartState.SENT}
                covered = [
                    row.body.split()[0]
                    for row in stored
                    if row.conversation_id == turn.conversation_id and turn.first_seq <= row.seq <= turn.upto_seq
                ]
                assert [word for word in turn.reply.split() if word[0] == "m" and word != "much"] == covered
            elif turn.state == TurnState.WITHDRAWN:
                assert self.injuries & {"reset", "disabled"}
            else:
                self.is_expected(turn.error_code)

    def is_expected(self, code: str) -> None:
        """A dead letter must have a reason."""
        reasons = {
            "assistant_failed": {"answer_lost", "provider_refuses"},
            "business_disabled": {"disabled"},
            "send_failed": {"twilio_busy", "twilio_refuses", "twilio_unclear"},
        }
        assert self.injuries & reasons[code], f"nothing explains {code}"
