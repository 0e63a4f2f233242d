"""Requests that are no message: each gets its clear answer, stores nothing, and breaks nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from chatbotctl.server.request_reading import MAX_BODY
from tests.fakes.openai_server import FakeOpenAI
from tests.installs import BUSINESS, CUSTOMER, Vendors, add_business, install, sqlite_database
from tests.integration.webhook_site import FORM, error_of, pairs, post, stored

JSON = "application/json"
WHO = f"From={CUSTOMER}&To={BUSINESS}&".replace("+", "%2B").encode()


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    folder: Path = tmp_path_factory.mktemp("bad-requests")
    with FakeOpenAI() as openai:
        flags = {("server", "reply_wait_seconds"): 0}
        with install(Vendors(openai=openai), flags=flags, database_url=sqlite_database(folder)) as core:
            add_business(core)
            yield core


@pytest.fixture
def client(core: Core) -> FlaskClient:
    """Unsigned requests are let in, so that they are judged for what they hold."""
    return create_app(core, allow_unsigned=True).test_client()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "words"),
    [
        (WHO + b"Body=%ff", FORM, 400, "unreadable_message", "Body"),
        (WHO + b"Body=caf\xe9", FORM, 400, "unreadable_message", "Body"),
        (WHO + b"Body=a%00b", FORM, 400, "unreadable_message", "Body"),
        (WHO + b"Body=a\x00b", FORM, 400, "unreadable_message", "Body"),
        (WHO + b"Body=x&ProfileName=%00", FORM, 400, "unreadable_message", "ProfileName"),
        (WHO + b"Body=x&Unheard=%00", FORM, 400, "unreadable_message", "Unheard"),
        (WHO + b"Body=%ED%A0%BD", FORM, 400, "unreadable_message", "Body"),
        (WHO, FORM, 400, "unreadable_message", "Body is missing"),
        (b"To=x&Body=x", FORM, 400, "unreadable_message", "From is missing"),
        (b"From=x&Body=x", FORM, 400, "unreadable_message", "To is missing"),
        (b"", FORM, 400, "unreadable_message", "From is missing"),
        (WHO + b"Body=x&MessageSid=" + b"S" * 65, FORM, 400, "unreadable_message", "MessageSid"),
        (WHO + b"Body=x&MessageSid=SM%1b[31m", FORM, 400, "unreadable_message", "MessageSid"),
        (b"From=whatsapp:+1555&To=x&Body=x", FORM, 400, "unreadable_message", "%2B"),
        (WHO + b"Body=" + b"x" * 1601, FORM, 400, "message_too_long", "1601"),
        (b"{", JSON, 400, "unreadable_message", "not valid JSON"),
        (b"[1]", JSON, 400, "unreadable_message", "not a JSON object"),
        (b"", JSON, 400, "unreadable_message", "not valid JSON"),
        (b"[" * 60_000, JSON, 400, "unreadable_message", "not valid JSON"),
        (rb'{"From": "a", "To": "b", "Body": "\ud800"}', JSON, 400, "unreadable_message", "Body"),
        (rb'{"From": "a", "To": "b", "Body": "\u0000"}', JSON, 400, "unreadable_message", "Body"),
        (b'{"From": "a", "To": "b", "Body": {}}', JSON, 400, "unreadable_message", "Body"),
        (b'{"From": "a", "To": ["b"], "Body": "x"}', JSON, 400, "unreadable_message", "To"),
        (b'{"From": "\xff"}', JSON, 400, "unreadable_message", "UTF-8"),
        (WHO + b"Body=x", "text/plain", 415, "wrong_content_type", "content type"),
        (WHO + b"Body=x", None, 415, "wrong_content_type", "content type"),
        (b"--x--", "multipart/form-data; boundary=x", 415, "wrong_content_type", "content type"),
        (WHO + b"Body=" + b"x" * MAX_BODY, FORM, 413, "body_too_large", "too large"),
        (b'{"Body": "' + b"x" * MAX_BODY + b'"}', JSON, 413, "body_too_large", "too large"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_stores_nothing(
    core: Core, client: FlaskClient, body: bytes, content_type: str | None, status: int, code: str, words: str
) -> None:
    before = stored(core)
    response = client.post("/whatsapp", data=body, content_type=content_type)
    assert error_of(response) == (status, code)
    assert words in json.loads(response.data)["error"]
    assert b"5552220000" not in response.data
    assert stored(core) == before


def test_a_body_of_unknown_length_is_cut_off_at_the_limit_too(client: FlaskClient) -> None:
    response = client.post(
        "/whatsapp",
        input_stream=BytesIO(WHO + b"Body=" + b"x" * MAX_BODY),
        content_type=FORM,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert error_of(response) == (413, "body_too_large")


def test_a_body_of_just_the_limit_is_read(client: FlaskClient) -> None:
    body = WHO + b"Body=x&Padding="
    response = client.post("/whatsapp", data=body.ljust(MAX_BODY, b"x"), content_type=FORM)
    assert response.status_code == 200


def test_json_with_the_same_fields_is_taken_like_a_form(core: Core, client: FlaskClient) -> None:
    before = stored(core)
    response = client.post("/whatsapp", json={"From": CUSTOMER, "To": BUSINESS, "Body": "Grüße", "NumMedia": 0})
    assert response.json == {"success": True, "queued": True}
    assert stored(core) == before + 1


@given(body=st.binary(max_size=300), content_type=st.sampled_from([FORM, JSON]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_at_all_break_the_server(client: FlaskClient, body: bytes, content_type: str) -> None:
    response = client.post("/whatsapp", data=WHO + body, content_type=content_type)
    assert response.status_code in (200, 400)


@given(value=st.text(max_size=60), name=st.sampled_from(["From", "To", "Body", "NumMedia", "MessageSid", "Latitude"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_text_in_any_field_breaks_the_server(client: FlaskClient, name: str, value: str) -> None:
    fields = {"From": CUSTOMER, "To": BUSINESS, "Body": "x", name: value}
    response = client.post("/whatsapp", data=json.dumps(fields), content_type=JSON)
    assert response.status_code in (200, 400) or json.loads(response.data)["code"] == "business_not_found"


@pytest.mark.parametrize("sid", ["S" * 65, "SM\x1b[31m", "SM\u202e"])
def test_what_is_no_sid_is_not_logged_as_one(client: FlaskClient, sid: str) -> None:
    with capture_logs() as logs:
        assert error_of(post(client, pairs(MessageSid=sid), headers={})) == (400, "unreadable_message")
    assert [log["sid"] for log in logs if log["event"] == "webhook_answered"] == [None]


def test_an_unsigned_form_reaches_this_server_at_all(core: Core, client: FlaskClient) -> None:
    before = stored(core)
    assert post(client, pairs(), headers={}).status_code == 200
    assert stored(core) == before + 1
