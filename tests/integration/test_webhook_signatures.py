"""Who may speak to the webhook, and that nobody else learns anything from it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from chatbotctl.core import secret_key
from chatbotctl.core.config import Key
from chatbotctl.core.storage import businesses
from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import TOKEN, FakeTwilio
from tests.installs import BUSINESS, CUSTOMER, Vendors, add_business, install, sqlite_database
from tests.integration.webhook_site import FORM, PUBLIC, URL, Pairs, error_of, pairs, post, signature, stored

TENANT, TENANT_TOKEN = "whatsapp:+15550002222", "token-of-the-tenant"
NOBODY = "whatsapp:+15559998877"
#: Answers as soon as a message is stored: what becomes of it is not what these tests ask.
HASTY: Mapping[Key, object] = {**PUBLIC, ("server", "reply_wait_seconds"): 0}


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    return Vendors(openai=fake_openai, twilio=fake_twilio)


@pytest.fixture
def core(tmp_path: Path, vendors: Vendors) -> Iterator[Core]:
    with install(vendors, flags=HASTY, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        add_tenant(core, tmp_path)
        yield core


@pytest.fixture
def client(core: Core) -> FlaskClient:
    return create_app(core).test_client()


@pytest.fixture
def tokenless(tmp_path: Path, fake_openai: FakeOpenAI) -> Iterator[Core]:
    """An install without any auth token but the tenant's own."""
    with install(Vendors(openai=fake_openai), flags=HASTY, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        add_tenant(core, tmp_path)
        yield core


def add_tenant(core: Core, home: Path) -> None:
    """A business with a Twilio account of its own."""
    secret_key.make(home)
    tenant = add_business(core, "forge", TENANT)
    with core.database.write() as tx:
        core.vault.store(tx, tenant, "twilio", f"AC{'1' * 32}:{TENANT_TOKEN}")


def hmac_of(text: str, token: str = TOKEN) -> str:
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def post_json(client: FlaskClient, fields: Any, *, signed_body: str | None = None, token: str = TOKEN) -> Any:
    """Post JSON as Twilio signs it: by a hash of the body in the URL, and a signature of that URL alone."""
    body = json.dumps(fields)
    digest = hashlib.sha256((signed_body or body).encode()).hexdigest()
    headers = {"X-Twilio-Signature": hmac_of(f"{URL}?bodySHA256={digest}", token)}
    return client.post(f"/whatsapp?bodySHA256={digest}", data=body, content_type="application/json", headers=headers)


# let in


def test_a_signed_form_is_let_in(core: Core, client: FlaskClient) -> None:
    assert post(client, pairs()).status_code == 200
    assert stored(core) == 1


def test_a_form_with_fields_that_nobody_knows_yet_is_let_in(client: FlaskClient) -> None:
    assert post(client, pairs(FieldOfTomorrow="x", Empty="", Ünïcode="世 + &=")).status_code == 200


def test_a_field_that_came_twice_is_signed_with_both_values_and_counts_with_the_first(
    core: Core, client: FlaskClient
) -> None:
    fields = [*pairs(), ("Tag", "b"), ("Tag", "a"), ("To", NOBODY)]
    assert post(client, fields).status_code == 200
    assert stored(core) == 1
    assert error_of(post(client, fields, headers=signature(fields[:-1]))) == (403, "bad_signature")


def test_a_signed_query_string_counts_to_the_letter(client: FlaskClient) -> None:
    fields = pairs()
    query = "?business=bakery&x=%2f%2F&empty="
    for signed_url, status in ((URL + query, 200), (URL + query.lower(), 403), (URL, 403)):
        headers = signature(fields, url=signed_url)
        response = client.post(f"/whatsapp{query}", data=dict(fields), content_type=FORM, headers=headers)
        assert response.status_code == status, signed_url


def test_signed_json_is_let_in(core: Core, client: FlaskClient) -> None:
    assert post_json(client, dict(pairs("Grüße 👋"))).status_code == 200
    assert stored(core) == 1


def test_a_tenants_requests_are_signed_with_the_tenants_own_token(core: Core, client: FlaskClient) -> None:
    fields = pairs(To=TENANT)
    assert post(client, fields, headers=signature(fields, token=TENANT_TOKEN)).status_code == 200
    assert post_json(client, dict(pairs(To=TENANT)), token=TENANT_TOKEN).status_code == 200
    assert stored(core) == 2


# kept out


def forged(kind: str, fields: Pairs) -> dict[str, str]:
    """Headers that are not the right signature of a form, in every way that we can think of."""
    right = signature(fields)["X-Twilio-Signature"]
    return {
        "missing": {},
        "empty": {"X-Twilio-Signature": ""},
        "nonsense": {"X-Twilio-Signature": "x" * 28},
        "not ascii": {"X-Twilio-Signature": "\xe9" * 28},
        "twice": {"X-Twilio-Signature": f"{right}, {right}"},
        "another token's": signature(fields, token="other"),
        "another url's": signature(fields, url="https://evil.example.com/whatsapp"),
        "http instead of https": signature(fields, url=URL.replace("https", "http")),
        "with a slash behind": signature(fields, url=f"{URL}/"),
        "another form's": signature([*fields, ("Extra", "x")]),
        "another body's": signature([(name, value + "!" if name == "Body" else value) for name, value in fields]),
    }[kind]


KINDS = [
    "missing",
    "empty",
    "nonsense",
    "not ascii",
    "twice",
    "another token's",
    "another url's",
    "http instead of https",
    "with a slash behind",
    "another form's",
    "another body's",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_form_is_refused_alike_whomever_it_is_for(core: Core, client: FlaskClient, kind: str) -> None:
    with core.database.write() as tx:
        businesses.set_disabled(tx, add_business_in(tx, "closed", "whatsapp:+15550003333"), True)
    answers = set()
    for to in (BUSINESS, TENANT, NOBODY, "whatsapp:+15550003333", "", "not\nan address"):
        fields = pairs(To=to)
        response = post(client, fields, headers=forged(kind, fields))
        assert error_of(response) == (403, "bad_signature")
        answers.add(response.data)
    assert len(answers) == 1
    assert stored(core) == 0


def add_business_in(tx: Any, name: str, number: str) -> Any:
    return businesses.add(tx, name=name, whatsapp_address=number, values={})


@pytest.mark.parametrize(
    "fields",
    [
        [("Body", "no addresses")],
        [("From", CUSTOMER), ("To", BUSINESS)],
        [("From", CUSTOMER), ("To", BUSINESS), ("Body", "a\0b")],
        [("From", CUSTOMER), ("To", BUSINESS), ("Body", "x" * 5000)],
        [],
    ],
)
def test_whoever_is_not_signed_is_not_told_what_else_is_wrong(client: FlaskClient, fields: Pairs) -> None:
    assert error_of(post(client, fields, headers={})) == (403, "bad_signature")


@pytest.mark.parametrize("body", ["{", "[]", '{"Body": null}', r'{"To": "\ud800"}', "{}"])
def test_unsigned_json_is_refused_whatever_it_holds(client: FlaskClient, body: str) -> None:
    assert error_of(client.post("/whatsapp", data=body, content_type="application/json")) == (403, "bad_signature")


def test_json_that_was_changed_or_is_not_vouched_for_by_the_url_is_refused(core: Core, client: FlaskClient) -> None:
    fields = dict(pairs())
    assert error_of(post_json(client, fields, signed_body="{}")) == (403, "bad_signature")
    assert error_of(post_json(client, fields, token="other")) == (403, "bad_signature")
    unhashed = client.post(
        "/whatsapp", json=fields, headers={"X-Twilio-Signature": hmac_of(URL)}, content_type="application/json"
    )
    assert error_of(unhashed) == (403, "bad_signature")
    assert stored(core) == 0


def test_one_tenant_cannot_speak_for_another(core: Core, client: FlaskClient) -> None:
    for to, token in ((BUSINESS, TENANT_TOKEN), (NOBODY, TENANT_TOKEN), (TENANT, TOKEN)):
        fields = pairs(To=to)
        assert error_of(post(client, fields, headers=signature(fields, token=token))) == (403, "bad_signature")
    assert stored(core) == 0


def test_a_tenants_token_that_cannot_be_decrypted_lets_nobody_in_and_says_so_in_the_log(
    core: Core, client: FlaskClient, tmp_path: Path
) -> None:
    secret_key.key_file(tmp_path).unlink()
    secret_key.make(tmp_path)
    del core.vault
    fields = pairs(To=TENANT)
    with capture_logs() as logs:
        response = post(client, fields, headers=signature(fields, token=TENANT_TOKEN))
    assert error_of(response) == (403, "bad_signature")
    assert [log["code"] for log in logs if log["event"] == "signature_uncheckable"] == ["secret_key"]


def test_a_refusal_logs_the_url_that_was_checked_and_no_secret(client: FlaskClient) -> None:
    fields = pairs("canary")
    right = signature(fields)["X-Twilio-Signature"]
    with capture_logs() as logs:
        client.post("/whatsapp?canary=1", data=dict(fields), content_type=FORM, headers={"X-Twilio-Signature": right})
    refused = [log for log in logs if log["event"] == "signature_refused"]
    assert [(log["url"], log["is_signed"]) for log in refused] == [(URL, True)]
    for secret in (TOKEN, right, "canary", "5552220000"):
        assert secret not in str(logs)


def test_a_captured_request_is_a_copy_wherever_its_fields_are_split(core: Core, client: FlaskClient) -> None:
    """Names and values are signed joined, with nothing between them, so its signature still fits."""
    sid = f"SM{'fa' * 16}"
    fields = pairs(MessageSid=sid, NumMedia="0", SmsMessageSid=sid)
    headers = signature(fields)
    assert post(client, fields, headers=headers).status_code == 200
    others = dict(fields)
    del others["MessageSid"], others["SmsMessageSid"], others["NumMedia"]
    resplit = [
        *({"MessageSid" + sid[:n]: sid[n:], "NumMedia": "0", "SmsMessageSid" + sid[:n]: sid[n:]} for n in (1, 2, 9)),
        {"MessageSid": "S", sid[1:]: "", "NumMedia": "0", "SmsMessageSid": sid},
        {"MessageSid": f"{sid}NumMedia0", "SmsMessageSid": sid},
    ]
    for moved in resplit:
        assert post(client, list((others | moved).items()), headers=headers).status_code == 200, "the signature fits"
    assert stored(core) == 1


# without a public URL


@pytest.fixture
def behind_a_proxy(tmp_path: Path, vendors: Vendors) -> Iterator[FlaskClient]:
    flags = {("server", "reply_wait_seconds"): 0, ("server", "trusted_proxies"): ("10.0.0.0/8",)}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        yield create_app(core).test_client()


@pytest.mark.parametrize(("peer", "status"), [("10.1.2.3", 200), ("192.0.2.1", 403)])
def test_only_a_trusted_proxy_may_say_by_which_url_it_was_called(
    behind_a_proxy: FlaskClient, peer: str, status: int
) -> None:
    fields = pairs()
    headers = {**signature(fields), "X-Forwarded-Proto": "https", "X-Forwarded-Host": "bot.example.com"}
    response = behind_a_proxy.post(
        "/whatsapp", data=dict(fields), content_type=FORM, headers=headers, environ_overrides={"REMOTE_ADDR": peer}
    )
    assert response.status_code == status


def test_a_direct_call_is_checked_by_its_own_url(behind_a_proxy: FlaskClient) -> None:
    fields = pairs()
    headers = signature(fields, url="http://bot.internal:8080/whatsapp")
    response = behind_a_proxy.post(
        "/whatsapp", data=dict(fields), content_type=FORM, headers=headers, base_url="http://bot.internal:8080"
    )
    assert response.status_code == 200


# without a token, or without any check


def test_without_a_token_nothing_is_let_in_unless_the_app_may(tokenless: Core) -> None:
    closed, opened = create_app(tokenless), create_app(tokenless, allow_unsigned=True)
    assert error_of(post(closed.test_client(), pairs(), headers={})) == (403, "bad_signature")
    assert post(opened.test_client(), pairs(), headers={}).status_code == 200


def test_a_business_that_has_a_token_is_protected_even_where_others_are_not(tokenless: Core) -> None:
    client = create_app(tokenless, allow_unsigned=True).test_client()
    assert error_of(post(client, pairs(To=TENANT), headers={})) == (403, "bad_signature")
    fields = pairs(To=TENANT)
    assert post(client, fields, headers=signature(fields, token=TENANT_TOKEN)).status_code == 200


def test_verification_can_be_turned_off(tmp_path: Path, vendors: Vendors) -> None:
    flags = {**HASTY, ("server", "verify_signatures"): False}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        assert post(create_app(core).test_client(), pairs(), headers={"X-Twilio-Signature": "x"}).status_code == 200
