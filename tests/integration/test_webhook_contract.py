"""Every row of the webhook's contract, on both databases: what the caller is told, what is stored, what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text, update
from structlog.testing import capture_logs

from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.storage import businesses
from chatbotctl.core.storage.schema import business_clients
from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from chatbotctl.server.whatsapp import EMPTY_TWIML
from tests import services
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import CUSTOMER, Vendors, add_business, eventually, install, running, sqlite_database
from tests.integration.webhook_site import PUBLIC, error_of, newest, pairs, post, stored

CANARY = "canary-words-of-a-customer"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return sqlite_database(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    return Vendors(openai=fake_openai, twilio=fake_twilio)


@pytest.fixture
def core(database_url: str, vendors: Vendors) -> Iterator[Core]:
    with install(vendors, flags=PUBLIC, database_url=database_url) as core:
        add_business(core)
        yield core


@pytest.fixture
def client(core: Core) -> FlaskClient:
    return create_app(core).test_client()


@pytest.fixture
def hasty(core: Core, database_url: str, vendors: Vendors) -> Iterator[Core]:
    """The same install, answering as soon as a message is stored."""
    with install(
        vendors, flags={**PUBLIC, ("server", "reply_wait_seconds"): 0}, database_url=database_url
    ) as core_without_patience:
        yield core_without_patience


@pytest.fixture
def hasty_client(hasty: Core) -> FlaskClient:
    return create_app(hasty).test_client()


# taken


def test_a_message_is_answered_and_the_caller_is_told(core: Core, client: FlaskClient, fake_twilio: FakeTwilio) -> None:
    with running(core):
        response = post(client, pairs("Do you have bread?"))
    assert (response.status_code, response.json) == (200, {"success": True})
    assert response.content_type == "application/json"
    assert fake_twilio.sent(to=CUSTOMER) == ["You said: Do you have bread?"]


def test_a_message_to_an_operator_is_stored_and_a_success(
    core: Core, client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    with running(core):
        post(client, pairs("first"))
        with core.database.write() as tx:
            tx.execute(update(business_clients).values(held_by=HeldBy.OPERATOR.value))
        response = post(client, pairs("second"))
    assert (response.status_code, response.json) == (200, {"success": True})
    assert newest(core).body == "second"
    assert fake_twilio.sent() == ["You said: first"]


def test_a_message_whose_answer_takes_longer_is_queued_and_answered_later(
    core: Core, client: FlaskClient, hasty_client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    fields = pairs("hello")
    response = post(hasty_client, fields)
    assert (response.status_code, response.json) == (200, {"success": True, "queued": True})
    with running(core):
        eventually(lambda: fake_twilio.sent() == ["You said: hello"])
        duplicate = post(client, fields)
    assert duplicate.json == {"success": True}


def test_a_duplicate_of_an_answered_message_is_answered_alike_and_nothing_happens_twice(
    core: Core, client: FlaskClient, fake_twilio: FakeTwilio
) -> None:
    fields = pairs("once")
    with running(core):
        answers = [post(client, fields).json for _ in range(3)]
    assert answers == [{"success": True}] * 3
    assert stored(core) == 1
    assert fake_twilio.sent() == ["You said: once"]


def test_fifty_copies_at_once_are_one_message_and_one_reply(core: Core, fake_twilio: FakeTwilio) -> None:
    app, fields = create_app(core), pairs("fifty")
    with running(core), ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: post(app.test_client(), fields), range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert {"success": True} in [answer.json for answer in answers]
    assert stored(core) == 1
    assert fake_twilio.sent() == ["You said: fifty"]


def test_an_image_is_stored_with_all_its_fields_and_answered_with_a_polite_line(
    core: Core, client: FlaskClient, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI
) -> None:
    fields = pairs("", NumMedia="1", MediaUrl0="https://x/1", MediaContentType0="image/png", FieldOfTomorrow="kept")
    with running(core):
        assert post(client, fields).json == {"success": True}
    row = newest(core)
    assert (row.kind, row.media) == ("image", [{"url": "https://x/1", "content_type": "image/png"}])
    assert row.parameters == dict(fields)
    assert fake_twilio.sent() == [core.settings.replies.text_only]
    assert fake_openai.asked == []


@pytest.mark.parametrize(
    "body",
    [
        "e" + "\u0301" * 1500,
        "\u202egnp.exe\u2066",
        "\x1b[2J\x1b]0;owned\x07 [/red] <!channel> {thread_id} %s",
        "👩‍👩‍👧‍👦🏳️‍🌈" * 50,
        "\ufffe\U0010ffff\x85\u2028",
        "'; DROP TABLE clients; --",
    ],
)
def test_hostile_text_is_stored_to_the_letter(core: Core, hasty_client: FlaskClient, body: str) -> None:
    response = post(hasty_client, pairs(body, ProfileName=body[:60]))
    assert response.status_code == 200
    assert newest(core).body == body
    assert newest(core).parameters["Body"] == body


def test_a_caller_without_a_message_sid_is_served_and_the_same_signature_is_a_copy(
    core: Core, hasty_client: FlaskClient
) -> None:
    fields = [(name, value) for name, value in pairs("no sid") if name != "MessageSid"]
    assert post(hasty_client, fields).status_code == 200
    assert post(hasty_client, fields).status_code == 200
    assert stored(core) == 1
    assert post(hasty_client, [*fields, ("Time", "12:01")]).status_code == 200
    assert stored(core) == 2


# refused


def test_a_message_for_a_number_that_nobody_has_is_a_500_that_names_no_number(core: Core, client: FlaskClient) -> None:
    response = post(client, pairs(CANARY, To="whatsapp:+15559998877"))
    assert error_of(response) == (500, "business_not_found")
    assert b"15559998877" not in response.data
    assert stored(core) == 0


def test_a_disabled_business_refuses_and_stores_nothing(core: Core, client: FlaskClient) -> None:
    with core.database.write() as tx:
        businesses.set_disabled(tx, businesses.by_name(tx, "bakery"), True, "closed for good")
    response = post(client, pairs(CANARY))
    assert error_of(response) == (403, "business_disabled")
    assert b"closed" not in response.data
    assert stored(core) == 0


def test_a_message_taken_before_its_business_was_disabled_is_answered_as_the_first_copy(
    core: Core, client: FlaskClient
) -> None:
    fields = pairs("early")
    with running(core):
        post(client, fields)
    with core.database.write() as tx:
        businesses.set_disabled(tx, businesses.by_name(tx, "bakery"), True)
    assert post(client, fields).json == {"success": True}


def test_a_message_that_is_too_long_is_refused(core: Core, hasty_client: FlaskClient) -> None:
    response = post(hasty_client, pairs("x" * 1601))
    assert error_of(response) == (400, "message_too_long")
    assert stored(core) == 0
    assert post(hasty_client, pairs("ü" * 1600)).status_code == 200


def test_without_a_usable_assistant_the_message_is_stored_all_the_same(core: Core, client: FlaskClient) -> None:
    add_business(core, "forge", "whatsapp:+15550002222", backend="threads")
    fields = pairs(CANARY, To="whatsapp:+15550002222")
    assert error_of(post(client, fields)) == (500, "assistant_not_usable")
    assert newest(core).body == CANARY
    assert error_of(post(client, fields)) == (500, "assistant_not_usable"), "a duplicate is answered as the first"


def test_an_assistant_that_fails_for_good_is_a_500_and_so_is_every_duplicate(
    core: Core, client: FlaskClient, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.plan("/responses", response=Response(500, {"error": {"message": CANARY}}), times=50)
    fields = pairs(CANARY)
    with running(core):
        first, second = post(client, fields), post(client, fields)
    assert error_of(first) == (500, "assistant_failed")
    assert first.data == second.data
    assert CANARY.encode() not in first.data
    assert fake_twilio.sent() == [core.settings.replies.apology]


def test_a_database_that_is_gone_is_a_503_and_nothing_is_acknowledged(
    hasty: Core, hasty_client: FlaskClient, request: pytest.FixtureRequest
) -> None:
    assert post(hasty_client, pairs("before")).status_code == 200
    take_down(hasty, request)
    assert error_of(post(hasty_client, pairs(CANARY))) == (503, "storage_unavailable")


def test_a_database_that_can_only_be_read_is_a_503(postgres_url: str, postgres_server: str, vendors: Vendors) -> None:
    with install(vendors, flags=PUBLIC, database_url=postgres_url) as core:
        add_business(core)
        core.database.close()
        with services.administrator(postgres_server) as cursor:
            cursor.execute(f'ALTER DATABASE "{core.database.url.database}" SET default_transaction_read_only = on')
        response = post(create_app(core).test_client(), pairs(CANARY))
        assert error_of(response) == (503, "storage_unavailable")
        assert stored(core) == 0


def test_a_table_that_is_away_is_a_503(hasty: Core, hasty_client: FlaskClient) -> None:
    with hasty.database.write() as tx:
        tx.execute(text("ALTER TABLE inbound_messages RENAME TO away"))
    assert error_of(post(hasty_client, pairs(CANARY))) == (503, "storage_unavailable")


def test_a_fault_of_our_own_tells_neither_the_caller_nor_the_log_anything_of_the_customer(
    hasty: Core, hasty_client: FlaskClient
) -> None:
    with hasty.database.write() as tx:
        # The words of the error that follows hold the value that stands there twice.
        tx.execute(text("CREATE UNIQUE INDEX no_two_alike ON inbound_messages (body)"))
    with capture_logs() as logs:
        post(hasty_client, pairs(CANARY))
        response = post(hasty_client, pairs(CANARY))
    assert response.json == {"error": "Something went wrong.", "code": "error"}
    assert error_of(response) == (500, "error")
    assert [log["error"] for log in logs if log["event"] == "request_crashed"] == ["IntegrityError"]
    assert CANARY not in f"{logs}{response.data!r}"


# how it is told


def test_twiml_answers_taken_messages_with_an_empty_document_and_errors_with_json(
    core: Core, database_url: str, vendors: Vendors
) -> None:
    flags = {**PUBLIC, ("twilio", "answer"): "twiml", ("server", "reply_wait_seconds"): 0}
    with install(vendors, flags=flags, database_url=database_url) as other:
        client, fields = create_app(other).test_client(), pairs("hi")
        queued = post(client, fields)
        assert (queued.status_code, queued.text, queued.content_type) == (200, EMPTY_TWIML, "text/xml")
        with running(other):
            eventually(lambda: post(create_app(core).test_client(), fields).json == {"success": True})
        replied = post(client, fields)
        assert (replied.status_code, replied.text, replied.content_type) == (200, EMPTY_TWIML, "text/xml")
        refused = post(client, pairs("hi", To="whatsapp:+15559998877"))
        assert error_of(refused) == (500, "business_not_found")


def test_the_log_says_what_was_answered_and_never_what_was_written_or_by_whom(hasty_client: FlaskClient) -> None:
    with capture_logs() as logs:
        post(hasty_client, pairs(CANARY, MessageSid="SM7", ProfileName="Canary Name"))
        post(hasty_client, pairs(CANARY, To="whatsapp:+15559998877", MessageSid="SM8"))
    answered = [
        (log["log_level"], log["status"], log["code"], log["sid"]) for log in logs if log["event"] == "webhook_answered"
    ]
    assert answered == [("info", 200, None, "SM7"), ("error", 500, "business_not_found", "SM8")]
    for secret in (CANARY, "Canary Name", "5552220000", "5559998877"):
        assert secret not in str(logs)


def test_unknown_paths_and_methods_are_told_in_json(client: FlaskClient) -> None:
    assert error_of(client.get("/")) == (404, "not_found")
    assert error_of(client.post("/whatsapp/")) == (404, "not_found")
    assert error_of(client.get("/static/x")) == (404, "not_found")
    for method in ("GET", "PUT", "OPTIONS"):
        response = client.open("/whatsapp", method=method)
        assert error_of(response) == (405, "method_not_allowed")
        assert response.headers["Allow"] == "POST"


def take_down(core: Core, request: pytest.FixtureRequest) -> None:
    """The database is no longer there."""
    core.database.close()
    if core.database.file is not None:
        core.database.file.rename(core.database.file.with_suffix(".away"))
        core.database.file.mkdir()
        return
    name = core.database.url.database
    with services.administrator(request.getfixturevalue("postgres_server")) as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
