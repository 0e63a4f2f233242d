"""Two messages of one conversation never run at once and keep their order, with a slow model and many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import select, text

from chatbotctl.core.config import Key
from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.flow.accept import accept
from chatbotctl.core.flow.pipeline import receive, run_turn
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.turnstile import Turnstile
from chatbotctl.core.flow.worker import Worker, work_once
from chatbotctl.core.records.conversation import Due, HeldBy
from chatbotctl.core.records.message import Result
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import events, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.wiring import Core
from tests.contract import store
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import (
    Vendors,
    add_business,
    empty_postgres,
    eventually,
    install,
    message,
    outcome,
    running,
    sqlite_database,
    take_in,
    work,
)

ROW = tables.business_clients.c
#: A statement gives up waiting for somebody's lock soon enough for a test.
SHORT_WAIT = text("SET LOCAL lock_timeout = '200ms'")


class Watched:
    """A model that notes how many of a conversation's questions it is given at once."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._lock = threading.Lock()
        self._inside: dict[str, int] = {}
        self.most_at_once = 0
        fake.reply = self

    def __call__(self, text: str) -> str:
        who = text.partition(" ")[0]
        with self._lock:
            self._inside[who] = self._inside.get(who, 0) + 1
            self.most_at_once = max(self.most_at_once, self._inside[who])
        threading.Event().wait(0.02)
        with self._lock:
            self._inside[who] -= 1
        return text


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04}"


def expire_lease(core: Core) -> None:
    """Whoever has a conversation is dead, or frozen for longer than its lease."""
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))


def test_many_messages_of_many_customers_keep_their_order(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, backend="chat")
    model = Watched(fake_openai)

    def write(number: int) -> None:
        for count in range(6):
            take_in(any_site, f"{number} {count}", sender=customer(number))

    with ExitStack() as workers, ThreadPoolExecutor(5) as pool:
        for _ in range(2):
            workers.enter_context(running(any_site))
        list(pool.map(write, range(5)))
        eventually(lambda: len(fake_twilio.sent()) == 30)

    assert model.most_at_once == 1
    for number in range(5):
        assert fake_twilio.sent(to=customer(number)) == [f"{number} {count}" for count in range(6)]


def test_burst_inside_the_quiet_window_is_one_question_and_one_answer(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    flags = {("worker", "quiet_seconds"): 0.5}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with running(core), ThreadPoolExecutor(3) as pool:
            became = list(
                pool.map(lambda body: receive(core.services, message(body), wait_seconds=20), ("Hi", "Bread?", "Cake?"))
            )

    assert {one.result for one in became} == {Result.REPLIED}
    assert len(fake_twilio.sent()) == 1
    (asked,) = fake_openai.asked
    assert sorted(asked.text.split("\n")) == ["Bread?", "Cake?", "Hi"]


def test_message_that_comes_while_another_is_answered_is_answered_after_it(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    thinking, go_on = threading.Event(), threading.Event()

    def reply(text: str) -> str:
        thinking.set()
        go_on.wait(20)
        return f"You said: {text}"

    fake_openai.reply = reply
    with running(site):
        take_in(site, "one")
        assert thinking.wait(20)
        second = take_in(site, "two")
        go_on.set()
        eventually(lambda: outcome(site, second).result is Result.REPLIED)

    assert fake_twilio.sent() == ["You said: one", "You said: two"]


def test_held_conversation_is_stored_and_left_to_the_operator(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    work(site, take_in(site, "one").conversation_id)
    with site.database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by=HeldBy.OPERATOR.value))

    with running(site):
        became = receive(site.services, message("two"), wait_seconds=20)

    assert became.result is Result.HELD
    assert fake_twilio.sent() == ["You said: one"]
    assert len(fake_openai.asked) == 1


# workers that die, freeze, or lose the database


def test_frozen_workers_answer_is_not_sent_when_another_took_over(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, backend="chat")
    accepted = take_in(any_site, "Hello")
    first = threading.Event()

    def reply(text: str) -> str:
        if first.is_set():
            return "from the heir"
        first.set()
        with any_site.database.write() as tx:
            tx.execute(tables.business_clients.update().values(lease_until=now() - 1))
        work(any_site, accepted.conversation_id, owner="heir")
        return "from the frozen one"

    fake_openai.reply = reply

    assert work_once(any_site.services, accepted.conversation_id, owner="frozen") is None

    assert fake_twilio.sent() == ["from the heir"]
    assert outcome(any_site, accepted).result is Result.REPLIED


def test_frozen_worker_that_goes_on_before_it_asks_asks_nobody(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heir may be asking in the same conversation, for the next turn perhaps."""
    add_business(site)
    work(site, take_in(site, "one").conversation_id)
    accepted = take_in(site, "two")
    look_up = site.services.cache.get

    def freeze(**pair: str) -> object:
        monkeypatch.undo()
        expire_lease(site)
        work(site, accepted.conversation_id, owner="heir")
        return look_up(**pair)

    monkeypatch.setattr(site.services.cache, "get", freeze)

    assert work_once(site.services, accepted.conversation_id, owner="frozen") is None

    assert [asked.text for asked in fake_openai.asked] == ["one", "two"]
    assert fake_twilio.sent() == ["You said: one", "You said: two"]


def test_worker_that_was_frozen_while_it_asked_does_not_ask_again(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.plan_answer("empty")
    with install(vendors, flags={("openai", "attempts"): 3}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core, backend="chat")
        accepted = take_in(core, "Hello")

        def freeze(text: str) -> str:
            fake_openai.reply = lambda text: f"You said: {text}"
            expire_lease(core)
            work(core, accepted.conversation_id, owner="heir")
            return text

        fake_openai.reply = freeze

        assert work_once(core.services, accepted.conversation_id, owner="frozen") is None

    assert len(fake_openai.asked) == 2, "the frozen one's question and its heir's"
    assert fake_twilio.sent() == ["You said: Hello"]


def test_frozen_worker_that_crashes_leaves_the_conversation_to_its_heir(
    site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(site)
    accepted = take_in(site, "Hello")

    def crash_the_first(services: Services, turn: Turn) -> float | None:
        if turn.lease.fence > 1:
            return run_turn(services, turn)
        with site.database.write() as tx:
            tx.execute(tables.business_clients.update().values(lease_until=now() - 1))
        work(site, accepted.conversation_id, owner="heir")
        raise ZeroDivisionError

    monkeypatch.setattr("chatbotctl.core.flow.worker.run_turn", crash_the_first)

    assert work_once(site.services, accepted.conversation_id, owner="frozen") is None

    assert fake_twilio.sent() == ["You said: Hello"]
    assert outcome(site, accepted).result is Result.REPLIED


def test_answer_that_was_stored_is_sent_by_the_next_worker_without_asking_again(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(site)
    accepted = take_in(site, "Hello")

    def away(*_: object, **__: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as database_goes_away:
        database_goes_away.setattr("chatbotctl.core.storage.outbox.start_sending", away)
        with pytest.raises(StorageUnavailable):
            work_once(site.services, accepted.conversation_id, owner="dead")
    assert work(site, accepted.conversation_id) is None, "the lease still stands"

    with site.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


def test_conversation_whose_turn_lost_the_database_is_taken_up_again_by_the_same_worker(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat must not keep the lease of a turn that nobody works on any more."""
    flags = {("worker", "lease_seconds"): 1}
    failures = [1]

    def away_once(*arguments: object, **options: object) -> object:
        if failures:
            failures.pop()
            raise StorageUnavailable
        return whole(*arguments, **options)

    from chatbotctl.core.storage import outbox

    whole = outbox.start_sending
    monkeypatch.setattr(outbox, "start_sending", away_once)
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with running(core):
            take_in(core, "Hello")
            eventually(lambda: fake_twilio.sent() == ["You said: Hello"])
    assert not failures


def test_heartbeat_keeps_a_turn_that_takes_longer_than_the_lease(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.thinking = 2.5
    flags = {("worker", "lease_seconds"): 1}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core, ExitStack() as workers:
        add_business(core)
        for _ in range(2):
            workers.enter_context(running(core))
        take_in(core, "Hello")
        eventually(lambda: fake_twilio.sent())

    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


# the end of a process


def test_drained_worker_finishes_what_it_began_and_leaves_the_rest_stored(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    thinking, go_on = threading.Event(), threading.Event()

    def reply(text: str) -> str:
        thinking.set()
        go_on.wait(20)
        return text

    fake_openai.reply = reply
    one_at_a_time = {("worker", "concurrency"): 1}
    with install(vendors, flags=one_at_a_time, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        worker = Worker(core.services)
        worker.start()
        take_in(core, "begun")
        assert thinking.wait(20)
        late = take_in(core, "late", sender=customer(1))
        eventually(lambda: late.conversation_id in worker._busy)
        with ThreadPoolExecutor(1) as pool:
            drained = pool.submit(worker.drain, 20)
            eventually(lambda: worker._stopping.is_set())
            after = take_in(core, "after", sender=customer(2))
            go_on.set()
            assert drained.result(20) is True

        assert fake_twilio.sent() == ["begun"]
        assert outcome(core, late).result is Result.QUEUED
        assert outcome(core, after).result is Result.QUEUED


def test_drain_gives_up_on_a_turn_that_takes_too_long(site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(site)
    thinking, go_on = threading.Event(), threading.Event()

    def reply(text: str) -> str:
        thinking.set()
        go_on.wait(20)
        return text

    fake_openai.reply = reply
    worker = Worker(site.services)
    worker.start()
    accepted = take_in(site)
    assert thinking.wait(20)

    assert worker.drain(0.1) is False

    go_on.set()
    eventually(lambda: outcome(site, accepted).result is Result.REPLIED)


def test_wake_up_after_the_drain_is_ignored(site: Core) -> None:
    worker = Worker(site.services)
    worker.start()
    worker.drain(20)

    assert worker.submit(Due(1, 1)) is False

    assert worker._busy == {}


def test_more_than_has_room_is_answered_without_waiting_for_the_next_sweep(
    fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    vendors = Vendors(openai=fake_openai, twilio=fake_twilio)
    flags = {("worker", "concurrency"): 1, ("worker", "sweep_seconds"): 60.0}
    go_on = threading.Event()
    fake_openai.reply = lambda text: str(go_on.wait(20)) + text
    with install(vendors, flags=flags) as core:
        add_business(core, backend="chat")
        with running(core):
            for number in range(8):
                take_in(core, "Hi", sender=customer(number))
            # One runs and two wait: five are left out.
            eventually(lambda: fake_openai.asked)
            go_on.set()
            eventually(lambda: len(fake_twilio.sent()) == 8)


@pytest.mark.parametrize("hangs", ["new conversation", "question", "sending"])
def test_turn_that_waits_for_the_outside_leaves_its_place_to_the_others(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, hangs: str
) -> None:
    """Two turns, of which one may compute at once: each waits outside until the other has come there too."""
    together = threading.Barrier(2, timeout=20)
    paths = {"new conversation": "/v1/conversations", "question": "/v1/responses", "sending": "/Messages.json"}

    def meets(fake: FakeOpenAI | FakeTwilio) -> None:
        whole = fake.handle

        def handle(request: Request) -> Response:
            if request.method == "POST" and request.path.endswith(paths[hangs]):
                together.wait()
            return whole(request)

        fake.handle = handle  # type: ignore[method-assign]

    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        object.__setattr__(core.services, "turnstile", Turnstile(places=1, patience=60))
        add_business(core)
        meets(fake_openai)
        meets(fake_twilio)
        for number in range(2):
            take_in(core, "Hello", sender=customer(number))
        with running(core):
            eventually(lambda: len(fake_twilio.sent()) == 2)
        with core.database.read() as tx:
            assert tx.scalars(select(tables.turns.c.attempts)).all() == [0, 0], "nobody gave up and was put off"


def test_worker_passes_over_a_conversation_whose_row_somebody_has_locked(
    vendors: Vendors, postgres_store: str, fake_twilio: FakeTwilio
) -> None:
    """With a business's rows locked for a while, waiting for each would take the connections of all businesses."""
    empty_postgres(postgres_store)
    with install(vendors, database_url=postgres_store) as core:
        add_business(core)
        accepted = take_in(core, "Hello")
        with core.database.write() as other:
            other.execute(select(tables.business_clients.c.id).with_for_update())
            assert work_once(core.services, accepted.conversation_id, owner="one") is None

        work(core, accepted.conversation_id)
    assert fake_twilio.sent() == ["You said: Hello"]


def test_copy_of_a_message_that_is_being_noted_does_not_hold_up_its_turn(vendors: Vendors, postgres_store: str) -> None:
    """Many copies come at once when Twilio tries again: passed over, the conversation would wait for the sweeper."""
    empty_postgres(postgres_store)
    with install(vendors, database_url=postgres_store) as core:
        add_business(core)
        conversation_id = take_in(core, "Hello").conversation_id
        with core.database.write() as copy, core.database.write() as tx:
            events.record(copy, conversation_id, "duplicate")
            lease = turns.claim(tx, conversation_id, owner="one", lease_seconds=15)
            assert lease is not None
            tx.execute(SHORT_WAIT)
            assert turns.holds(tx, lease)


def test_locked_row_costs_the_workers_other_conversations_no_lease(vendors: Vendors, postgres_store: str) -> None:
    """A heartbeat that waits for it renews nothing until it gives up, and then the leases run out."""
    empty_postgres(postgres_store)
    with install(vendors, database_url=postgres_store) as core:
        add_business(core)
        locked, other = (take_in(core, sender=customer(number)).conversation_id for number in range(2))
        for conversation_id in (locked, other):
            store.claim(core.database, conversation_id)
        with core.database.write() as somebody, core.database.write() as heartbeat:
            somebody.execute(select(ROW.id).where(ROW.id == locked).with_for_update())
            heartbeat.execute(SHORT_WAIT)
            assert turns.renew(heartbeat, "one", 1000, [locked, other]) == 1


def test_locked_row_keeps_no_worker_paused(vendors: Vendors, postgres_store: str) -> None:
    """It is due as ever, and may be the first that the sweeper finds."""
    empty_postgres(postgres_store)
    with install(vendors, database_url=postgres_store) as core:
        add_business(core)
        conversation_id = take_in(core).conversation_id
        with core.database.write() as somebody, core.database.write() as sweeper:
            somebody.execute(select(ROW.id).with_for_update())
            sweeper.execute(SHORT_WAIT)
            turns.try_to_write(sweeper, conversation_id)


def test_sweeper_does_not_hurry_while_all_that_it_finds_is_locked(
    vendors: Vendors, postgres_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A business is removed, say: its conversations are passed over, and one sweep does not find all of them."""
    empty_postgres(postgres_store)
    flags: dict[Key, object] = {("worker", "concurrency"): 2, ("worker", "sweep_seconds"): 0.5}
    with install(vendors, flags=flags, database_url=postgres_store) as core:
        add_business(core)
        for number in range(9):
            accept(core.services, message(sender=customer(number)), wake=False)
        looked: list[int] = []
        due = turns.due
        monkeypatch.setattr(turns, "due", lambda *args, **options: looked.append(1) or due(*args, **options))
        with core.database.write() as somebody:
            somebody.execute(select(ROW.id).with_for_update())
            with running(core):
                eventually(lambda: len(looked) >= 2)
                threading.Event().wait(0.3)  # for hundreds of looks, if it hurried
    assert len(looked) < 20
