"""What Twilio tells of a message after it took it: once, forward only, of one's own messages, and in whatever order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from chatbotctl.core import failpoints
from chatbotctl.core.flow import note_delivery
from chatbotctl.core.records.delivery import FAILED, PROGRESS
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import (
    Vendors,
    add_business,
    answer,
    eventually,
    install,
    post_to_slack,
    sqlite_database,
    take_in,
    work,
)
from tests.integration.conftest import NAMED_AFTER_CUSTOMER, stores_of
from tests.integration.webhook_site import PUBLIC, error_of, post_status

CAFE = "whatsapp:+15550002222"
NOT_IN_WINDOW = "63016"


@pytest.fixture(params=["sqlite+memory", "postgresql+redis"])
def public(request: pytest.FixtureRequest, vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    """An install that Twilio reaches, with all vendors."""
    stores = stores_of(request, tmp_path, is_embedded=request.param == "sqlite+memory")
    with install(vendors, flags={**NAMED_AFTER_CUSTOMER, **PUBLIC}, **stores) as core:
        yield core


@pytest.fixture
def client(public: Core) -> FlaskClient:
    return create_app(public).test_client()


def replied(core: Core, fake_twilio: FakeTwilio, *, text: str = "Hello") -> str:
    """The sid of a reply that Twilio took."""
    answer(core, text)
    return str(fake_twilio.messages[-1]["sid"])


def delivery(core: Core, sid: str) -> tuple[str | None, str | None, str]:
    """Twilio's word, its error code, and our own state of a part."""
    columns = tables.outbound_messages.c
    with core.database.read() as tx:
        row = tx.execute(
            select(columns.delivery_status, columns.error_code, columns.state).where(columns.sid == sid)
        ).one()
    return row.delivery_status, row.error_code, row.state


def told(core: Core) -> list[str]:
    """What the timeline has of it."""
    events = tables.events.c
    with core.database.read() as tx:
        return [row["status"] for row in tx.scalars(select(events.detail).where(events.kind == "delivery"))]


def shown(core: Core, slack: FakeSlack) -> list[str]:
    post_to_slack(core, 1)
    (channel,) = slack.channels
    return slack.texts(channel)


def test_twilio_is_asked_to_tell_and_what_it_tells_is_written_down(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    (sent,) = fake_twilio.seen("Messages", "POST")
    assert parse_qs(sent.body.decode())["StatusCallback"] == ["https://bot.example.com/whatsapp/status"]

    for status in ("sent", "delivered", "read"):
        response = post_status(client, sid, status)
        assert (response.status_code, response.json) == (200, {"success": True})

    assert delivery(public, sid) == ("read", None, "sent")
    assert told(public) == ["sent", "delivered", "read"]


@pytest.mark.parametrize("order", list(itertools.permutations(("sent", "delivered", "read"))), ids="-".join)
def test_in_whatever_order_it_only_moves_on(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio, order: tuple[str, ...]
) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    for status in order:
        for _ in range(3):
            assert post_status(client, sid, status).status_code == 200

    assert delivery(public, sid)[0] == "read"
    furthest = [max(order[: at + 1], key=PROGRESS.index) for at in range(len(order))]
    assert told(public) == list(dict.fromkeys(furthest))


@pytest.mark.parametrize("status", FAILED)
def test_63016_by_callback_is_one_alert_with_the_reason_and_nothing_is_sent_again(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio, fake_slack: FakeSlack, status: str
) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    for each in ("sent", *[status] * 5, "sent", "queued"):
        assert post_status(client, sid, each, code=NOT_IN_WINDOW).status_code == 200

    assert delivery(public, sid) == (status, NOT_IN_WINDOW, "sent")
    alerts = [line for line in shown(public, fake_slack) if "was not delivered" in line]
    assert len(alerts) == 1
    assert "more than 24 hours ago" in alerts[0]
    assert "You said: Hello" in alerts[0]
    assert len(fake_twilio.seen("Messages", "POST")) == 1
    with public.database.read() as tx:
        assert tx.scalars(select(tables.turns.c.state)).all() == ["done"]


def test_what_was_delivered_has_not_failed(public: Core, client: FlaskClient, fake_twilio: FakeTwilio) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    for status in ("delivered", "failed"):
        post_status(client, sid, status, code="63024")
    assert delivery(public, sid)[0] == "delivered"


def test_report_that_comes_before_our_own_commit_waits_for_it(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    add_business(public)
    accepted = take_in(public, "Hello")
    reported: list[int] = []

    def report() -> None:
        eventually(lambda: fake_twilio.messages)
        reported.append(post_status(client, fake_twilio.messages[0]["sid"], "failed", code=NOT_IN_WINDOW).status_code)

    with failpoints.armed("sent_not_recorded:sleep=0.5"):
        thread = threading.Thread(target=report)
        thread.start()
        work(public, accepted.conversation_id)
        thread.join(20)

    assert reported == [200]
    assert delivery(public, fake_twilio.messages[0]["sid"])[:2] == ("failed", NOT_IN_WINDOW)


def test_failure_that_was_told_while_nobody_was_there_is_found_in_the_list(
    public: Core, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(public)
    accepted = take_in(public, "Hello")
    with failpoints.armed("sent_not_recorded:raise"), pytest.raises(failpoints.FailPointReached):
        work(public, accepted.conversation_id)
    fake_twilio.messages[0] |= {"status": "undelivered", "error_code": 63016}
    with public.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=0.0))

    work(public, accepted.conversation_id, owner="heir")

    assert delivery(public, fake_twilio.messages[0]["sid"]) == ("undelivered", NOT_IN_WINDOW, "sent")
    assert sum("more than 24 hours ago" in line for line in shown(public, fake_slack)) == 1


def test_message_that_nobody_here_sent_changes_nothing(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(note_delivery, "WAIT_SECONDS", 0.1)
    add_business(public)
    replied(public, fake_twilio)
    assert post_status(client, "SM" + "0" * 32, "failed", code=NOT_IN_WINDOW).status_code == 200
    assert told(public) == []


def test_another_business_tells_nothing_of_ones_messages(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    add_business(public)
    add_business(public, "cafe", CAFE)
    sid = replied(public, fake_twilio)
    assert post_status(client, sid, "failed", code=NOT_IN_WINDOW, From=CAFE).status_code == 200
    assert delivery(public, sid)[0] == "queued"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"MessageSid": ""}, (400, "unreadable_message")),
        ({"MessageStatus": ""}, (400, "unreadable_message")),
        ({"To": ""}, (400, "unreadable_message")),
        ({"To": "whatsapp:+1\x00"}, (400, "unreadable_message")),
    ],
)
def test_unreadable_report_is_refused(
    public: Core, client: FlaskClient, fields: dict[str, str], expected: tuple[int, str]
) -> None:
    add_business(public)
    form = {"sid": "SM1", "status": "sent"}
    response = post_status(client, **form, **fields)
    assert error_of(response) == expected


def test_status_that_twilio_adds_later_is_no_error(public: Core, client: FlaskClient, fake_twilio: FakeTwilio) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    assert post_status(client, sid, "teleported").status_code == 200
    assert delivery(public, sid)[0] == "queued"


@pytest.mark.parametrize("headers", [{}, {"X-Twilio-Signature": "forged"}], ids=["unsigned", "forged"])
def test_report_without_twilios_signature_is_refused(
    public: Core, client: FlaskClient, fake_twilio: FakeTwilio, headers: dict[str, str]
) -> None:
    add_business(public)
    sid = replied(public, fake_twilio)
    assert error_of(post_status(client, sid, "failed", headers=headers)) == (403, "bad_signature")
    assert delivery(public, sid)[0] == "queued"


def test_reply_leaves_although_twilio_cannot_use_the_address(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio
) -> None:
    flags = {("server", "public_url"): "https://my_bot.example.com"}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        answer(core, "one")
        answer(core, "two")
    assert fake_twilio.sent() == ["You said: one", "You said: two"]
    assert len(fake_twilio.seen("Messages", "POST")) == 3, "Twilio is not asked again for what it refuses"


@pytest.mark.parametrize("flags", [{}, PUBLIC | {("twilio", "status_callbacks"): False}], ids=["no address", "off"])
def test_twilio_is_not_asked_to_tell(vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, flags: dict) -> None:  # type: ignore[type-arg]
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        answer(core)
    (sent,) = fake_twilio.seen("Messages", "POST")
    assert "StatusCallback" not in sent.body.decode()
