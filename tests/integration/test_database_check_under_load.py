"""A busy healthy database is found sound at every moment, and a repair in its midst does nothing; on both stores."""

from __future__ import annotations

import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import businesses, consistency, conversations
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.upkeep.check_database import findings
from chatbotctl.core.upkeep.repair_database import repair
from chatbotctl.core.wiring import Core
from tests.contract import store
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import add_business, eventually, outcome, running, take_in

CUSTOMERS = 4
#: Messages to customers after which it has been looked at long enough.
PARTS = 60


def silent(what: str, total: int | None, unit: str) -> Any:
    return nullcontext(lambda _: None)


def write_on(core: Core, number: int, enough: threading.Event) -> int:
    """A customer who writes on, while their number passes to somebody else and operators reset the thread."""
    chance = random.Random(number)
    for message in itertools.count(1):
        owner = f"US.{number}.{message // 5}" if number % 3 == 0 else None
        taken = take_in(core, f"Message {message}", sender=f"whatsapp:+1555222{number:04}", external_user_id=owner)
        if chance.random() < 0.2:
            with core.database.write() as tx:
                conversations.reset(tx, conversations.get(tx, taken.conversation_id))
        if enough.wait(chance.choice((0.0, 0.1, 1.0))):  # a burst, or long enough to be answered
            return message
    return 0


def suspects(core: Core) -> list[tuple[str, int]]:
    """What one look finds, without the second one that `db check` gives to what is suspicious."""
    found = []
    for probe in consistency.PROBES:
        with consistency.moment(core.database) as tx:
            found += [(probe.code, each) for each in consistency.in_page(tx, probe, first=1, last=10**9)]
    return found


def test_a_busy_database_is_sound_at_every_moment(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    database = any_site.database
    bakery = add_business(any_site)
    fake_openai.reply = lambda text: f"You said: {text} " + "and more " * 250
    enough = threading.Event()
    with running(any_site, slack=True), ThreadPoolExecutor(CUSTOMERS) as pool:
        writing = [pool.submit(write_on, any_site, number, enough) for number in range(CUSTOMERS)]
        try:
            looks, disabled = 0, False
            while looks < 3 or len(fake_twilio.sent()) < PARTS:
                assert suspects(any_site) == []
                assert findings(database, progress=silent, moment=0) == []
                looks += 1
                if not disabled and len(fake_twilio.sent()) > PARTS // 2:
                    disabled = True
                    with database.write() as tx:
                        businesses.set_disabled(tx, bakery, disabled=True)
                        businesses.set_disabled(tx, bakery, disabled=False)
        finally:
            enough.set()
        written = sum(done.result() for done in writing)
        eventually(lambda: not any(row.ready_at for row in store.rows(database, tables.business_clients)), seconds=60)

    assert suspects(any_site) == []
    assert store.count(database, tables.inbound_messages) == written > CUSTOMERS
    assert fake_twilio.sent(), "answers have left meanwhile"


def test_a_repair_in_the_midst_of_work_mends_what_is_wrong_and_nothing_else(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    """A thread that nobody would ever look at again, among others that are being answered."""
    database = any_site.database
    add_business(any_site)
    lost = take_in(any_site, "Are you there?", sender="whatsapp:+15553330000")
    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(ready_at=None))
    enough = threading.Event()
    with running(any_site), ThreadPoolExecutor(CUSTOMERS) as pool:
        writing = [pool.submit(write_on, any_site, number, enough) for number in range(CUSTOMERS)]
        try:
            found = findings(database, progress=silent, moment=0)
            assert [(finding.code, list(finding.places)) for finding in found] == [
                ("never_due", [lost.conversation_id])
            ]
            assert repair(database, found, progress=silent) == []
            eventually(lambda: outcome(any_site, lost).result is Result.REPLIED)
        finally:
            enough.set()
        for done in writing:
            done.result()
        eventually(lambda: not any(row.ready_at for row in store.rows(database, tables.business_clients)), seconds=60)

    assert fake_twilio.sent(to="whatsapp:+15553330000") == ["You said: Are you there?"]
    assert suspects(any_site) == []
