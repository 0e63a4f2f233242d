"""A business gets another number while it answers: nothing leaves by the old one, which may be another's by then."""

from __future__ import annotations

import pytest

from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import businesses
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import BUSINESS, CUSTOMER, add_business, eventually, outcome, running, take_in, work
from tests.integration.webhook_site import Gate

MOVED = "whatsapp:+15550007777"


def swap(core: Core) -> None:
    """The bakery moves to a new number, and the cafe gets the old one."""
    with core.database.write() as tx:
        businesses.change(tx, businesses.by_name(tx, "bakery"), {"whatsapp_address": MOVED})
    add_business(core, "cafe", BUSINESS)


def test_reply_in_the_making_does_not_leave_by_another_businesss_number(
    any_site: Core, gate: Gate, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site)
    with running(any_site):
        accepted = take_in(any_site)
        eventually(lambda: fake_openai.asked or fake_openai.seen("/responses"))
        swap(any_site)
        gate.open()
        eventually(lambda: outcome(any_site, accepted).result is not Result.QUEUED)
    assert outcome(any_site, accepted).result is Result.WITHDRAWN
    assert fake_twilio.sent() == []


def test_reply_that_was_put_off_does_not_leave_by_another_businesss_number(
    any_site: Core, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site)
    fake_twilio.plan("Messages.json", times=1, response=Response(429, {"code": 20429, "status": 429}))
    accepted = take_in(any_site)
    work(any_site, accepted.conversation_id)
    swap(any_site)
    with any_site.database.write() as tx:
        tx.execute(tables.business_clients.update().values(ready_at=0.0))
    work(any_site, accepted.conversation_id)
    assert outcome(any_site, accepted).result is Result.WITHDRAWN
    assert fake_twilio.sent() == []


@pytest.mark.parametrize("changed", [{"language": "de"}, {"whatsapp_address": BUSINESS}])
def test_any_other_change_stops_no_reply(
    any_site: Core, gate: Gate, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, changed: dict[str, object]
) -> None:
    add_business(any_site)
    with running(any_site):
        accepted = take_in(any_site)
        eventually(lambda: fake_openai.asked or fake_openai.seen("/responses"))
        with any_site.database.write() as tx:
            businesses.change(tx, businesses.by_name(tx, "bakery"), changed)
        gate.open()
        eventually(lambda: outcome(any_site, accepted).result is Result.REPLIED)
    assert len(fake_twilio.sent(to=CUSTOMER, sender=BUSINESS)) == 1
