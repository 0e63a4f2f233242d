"""The port SignatureCheck: Twilio's published vectors, signatures of our own, and everything that is none."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbotctl.core.adapters.twilio_signature import TwilioSignature
from tests.specs import needs_specs, spec_folder

URL = "https://bot.example.com/whatsapp"
FIELDS = [("From", "whatsapp:+15552223333"), ("To", "whatsapp:+15550001111"), ("Body", "Hello")]
CHECK = TwilioSignature("token")


def accepts(signature: Any, *, url: Any = URL, fields: Any = FIELDS, body: Any = "") -> bool:
    return CHECK.accepts(url=url, fields=fields, body=body, signature=signature)


def hmac_of(text: str, token: str = "token") -> str:
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def json_url(body: str) -> str:
    return f"{URL}?bodySHA256={hashlib.sha256(body.encode()).hexdigest()}"


@needs_specs
def test_twilios_published_vectors() -> None:
    folder = spec_folder()
    assert folder is not None
    vectors = json.loads((folder / "signature_vectors.json").read_text("utf-8"))["twilio"]["vectors"]
    assert vectors
    for vector in vectors:
        fields = list(vector["params"].items()) if "params" in vector else None
        accepted = TwilioSignature(vector["token"]).accepts(
            url=vector["url"], fields=fields, body=vector.get("body", ""), signature=vector["signature"]
        )
        assert accepted is vector["valid"], vector


def test_a_signature_made_the_way_twilio_documents_it_is_accepted() -> None:
    signed = hmac_of(URL + "".join(name + value for name, value in sorted(FIELDS)))
    assert accepts(signed)
    assert CHECK.sign(url=URL, fields=FIELDS) == signed


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(fields=st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_what_we_sign_we_accept_whatever_the_text(fields: list[tuple[str, str]]) -> None:
    assert accepts(CHECK.sign(url=URL, fields=fields), fields=fields)


def test_the_order_of_the_fields_does_not_count() -> None:
    assert accepts(CHECK.sign(url=URL, fields=FIELDS), fields=FIELDS[::-1])


@pytest.mark.parametrize(
    "changed",
    [
        [*FIELDS[:2], ("Body", "Hello!")],
        [*FIELDS[:2], ("body", "Hello")],
        FIELDS[:2],
        [*FIELDS, ("MediaUrl0", "https://example.com")],
        [],
    ],
)
def test_a_changed_form_is_refused(changed: list[tuple[str, str]]) -> None:
    assert not accepts(CHECK.sign(url=URL, fields=FIELDS), fields=changed)


@pytest.mark.parametrize("url", [URL + "/", URL + "?a=b", "https://evil.example.com/whatsapp", URL.replace("s:", ":")])
def test_another_url_is_refused(url: str) -> None:
    assert not accepts(CHECK.sign(url=URL, fields=FIELDS), url=url)


def test_another_token_is_refused() -> None:
    assert not accepts(TwilioSignature("other").sign(url=URL, fields=FIELDS))


def test_a_field_that_came_twice_counts_with_both_values() -> None:
    fields = [*FIELDS, ("Tag", "b"), ("Tag", "a")]
    signed = hmac_of(URL + "BodyHelloFromwhatsapp:+15552223333TagaTagbTowhatsapp:+15550001111")
    assert accepts(signed, fields=fields)
    assert not accepts(signed, fields=[*FIELDS, ("Tag", "a")])


def test_connection_overrides_behind_the_url_are_not_signed() -> None:
    assert accepts(CHECK.sign(url=URL, fields=FIELDS), url=URL + "#rc=3&rp=ct,rt,5xx")
    assert CHECK.sign(url=URL + "#rc=3", fields=FIELDS) == CHECK.sign(url=URL, fields=FIELDS)


def test_a_standard_port_counts_the_same_with_and_without() -> None:
    with_port = URL.replace(".com/", ".com:443/")
    assert accepts(hmac_of(with_port), fields=[])
    assert accepts(hmac_of(URL), url=with_port, fields=[])


@pytest.mark.parametrize("signature", [None, "", "x", "é" * 28, "=" * 28, b"bytes", 12, "A" * 100_000])
def test_what_is_no_signature_is_refused_and_never_crashes(signature: Any) -> None:
    assert accepts(signature) is False


@pytest.mark.parametrize(
    "url", ["", "no url", "https://[::1", "https://host:port/", "https://host:99999/", b"https://x/", None, "\ud800"]
)
def test_a_url_that_is_none_is_refused_and_never_crashes(url: Any) -> None:
    assert accepts(CHECK.sign(url=URL, fields=FIELDS), url=url) is False


@pytest.mark.parametrize("fields", [[("Body", "\ud800")], [("\udfff", "x")], [("Body", b"bytes")], [("Body", None)]])
def test_text_that_cannot_be_signed_is_refused_and_never_crashes(fields: Any) -> None:
    assert accepts(CHECK.sign(url=URL, fields=FIELDS), fields=fields) is False


def test_long_and_foreign_text_is_signed_like_any_other() -> None:
    fields = [("Body", "Ü世👋🏽\u202e" * 20_000), ("ProfileName", "Zoë")]
    signed = hmac_of(URL + "".join(name + value for name, value in fields))
    assert accepts(signed, fields=fields)


# JSON bodies


@pytest.mark.parametrize("body", ['{"Body": "Hello"}', '{"Body": "Ü世👋"}', ""])
def test_a_json_body_is_accepted_by_its_hash_in_the_url(body: str) -> None:
    url = json_url(body)
    assert accepts(hmac_of(url), url=url, fields=None, body=body)


def test_a_changed_json_body_is_refused() -> None:
    url = json_url('{"Body": "Hello"}')
    assert not accepts(hmac_of(url), url=url, fields=None, body='{"Body": "Hell0"}')


@pytest.mark.parametrize("query", ["", "?a=b", "?bodySHA256=", "?bodySHA256=x"])
def test_a_json_body_that_the_url_does_not_vouch_for_is_refused(query: str) -> None:
    assert accepts(hmac_of(URL + query), url=URL + query, fields=None, body="{}") is False


@pytest.mark.parametrize("body", [b"{}", None, "\ud800"])
def test_a_json_body_that_is_no_text_is_refused_and_never_crashes(body: Any) -> None:
    url = json_url("{}")
    assert accepts(hmac_of(url), url=url, fields=None, body=body) is False


def test_without_a_token_nothing_is_accepted() -> None:
    unarmed = TwilioSignature("")
    assert not unarmed.accepts(url=URL, fields=FIELDS, body="", signature=unarmed.sign(url=URL, fields=FIELDS))
