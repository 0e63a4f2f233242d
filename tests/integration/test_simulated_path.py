"""A message that an operator makes up goes the very same path; nothing of it or because of it reaches a customer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chatbotctl.core.errors import AssistantNotUsable, BusinessNotFound
from chatbotctl.core.flow.await_outcome import await_outcome
from chatbotctl.core.flow.simulate import simulate
from chatbotctl.core.records.message import InboundMessage, Outcome, Result
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import CUSTOMER, Vendors, add_business, install, message, outcome, sqlite_database, take_in, work


@pytest.fixture
def printed() -> list[str]:
    return []


@pytest.fixture
def core(vendors: Vendors, tmp_path: Path, printed: list[str]) -> Iterator[Core]:
    with install(vendors, database_url=sqlite_database(tmp_path), print_unsent=printed.append) as made:
        yield made


def made_up(body: str = "Hello") -> InboundMessage:
    return message(body, simulated=True, mirrored=False)


def run(core: Core, body: str = "Hello", *, seconds: float = 20.0) -> Outcome:
    return simulate(core.services, made_up(body), wait_seconds=seconds)


def test_answer_is_printed_and_leaves_the_rows_of_a_real_one(
    core: Core, printed: list[str], fake_twilio: FakeTwilio
) -> None:
    add_business(core)

    assert run(core).result is Result.REPLIED

    assert printed == [f"-> {CUSTOMER}: You said: Hello"]
    assert fake_twilio.requests == []
    with core.database.read() as tx:
        kinds = [row.kind for row in tx.execute(tables.events.select().order_by(tables.events.c.id))]
    assert kinds == ["received", "turn_opened", "answered", "sent"]


def test_customer_who_waits_in_the_same_conversation_is_left_to_the_server(
    core: Core, printed: list[str], fake_twilio: FakeTwilio, fake_openai: FakeOpenAI
) -> None:
    add_business(core)
    real = take_in(core, "I am real")

    assert run(core, seconds=0).result is Result.QUEUED
    assert (printed, fake_twilio.sent(), fake_openai.asked) == ([], [], [])

    work(core, real.conversation_id)
    assert fake_twilio.sent() == ["You said: I am real"]
    assert printed == [f"-> {CUSTOMER}: You said: Hello"]


def test_conversation_that_a_server_has_is_waited_for(core: Core) -> None:
    add_business(core)
    first = take_in(core, simulated=True)
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(owner="a server", lease_until=now() + 0.5))

    assert run(core).result is Result.REPLIED
    assert outcome(core, first).result is Result.REPLIED


def test_business_without_a_usable_assistant_is_said_to_be_so_and_the_message_is_stored(core: Core) -> None:
    add_business(core, backend="threads")

    with pytest.raises(AssistantNotUsable):
        run(core)

    with core.database.read() as tx:
        assert len(tx.execute(tables.inbound_messages.select()).all()) == 1


def test_unknown_number_is_refused(core: Core) -> None:
    with pytest.raises(BusinessNotFound):
        run(core)


# waiting for the outcome


def test_who_will_not_wait_is_told_that_it_is_queued(core: Core) -> None:
    add_business(core)
    accepted = take_in(core)

    assert await_outcome(core.services, accepted, wait_seconds=0).result is Result.QUEUED


def test_who_waits_in_vain_is_told_that_it_is_queued(core: Core) -> None:
    add_business(core)
    accepted = take_in(core)

    assert await_outcome(core.services, accepted, wait_seconds=0.2).result is Result.QUEUED


def test_turn_that_another_process_ends_is_noticed(core: Core, vendors: Vendors) -> None:
    """It tells nobody here: only the database knows."""
    from concurrent.futures import ThreadPoolExecutor

    add_business(core)
    accepted = take_in(core)
    with ThreadPoolExecutor(1) as pool, install(vendors, database_url=core.loaded.database_url) as elsewhere:
        waiting = pool.submit(await_outcome, core.services, accepted, wait_seconds=20)
        work(elsewhere, accepted.conversation_id)

        assert waiting.result(20).result is Result.REPLIED


def test_no_worker_is_told_of_what_is_simulated_since_its_turn_runs_here(
    vendors: Vendors, tmp_path: Path, printed: list[str], redis_url: str
) -> None:
    stores = {"database_url": sqlite_database(tmp_path), "redis_url": redis_url}
    with install(vendors, print_unsent=printed.append, **stores) as core:
        add_business(core)
        run(core)
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("huey.*") == []
    assert printed == [f"-> {CUSTOMER}: You said: Hello"]
