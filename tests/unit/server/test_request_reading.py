"""From raw bytes to fields: what comes through unchanged, and what is refused, naming the field."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.test import EnvironBuilder

from chatbotctl.core.errors import UnreadableMessage
from chatbotctl.server.request_reading import FORM, JSON_TYPE, ReceivedFields, read_fields

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def received(body: bytes, content_type: str | None) -> ReceivedFields:
    builder = EnvironBuilder(method="POST", path="/whatsapp", data=body, content_type=content_type)
    try:
        return read_fields(Request(builder.get_environ()))
    finally:
        builder.close()


def form(body: bytes) -> dict[str, str]:
    return dict(received(body, FORM).require_readable())


def as_json(body: bytes | str) -> dict[str, str]:
    return dict(received(body.encode() if isinstance(body, str) else body, JSON_TYPE).require_readable())


@given(fields=st.dictionaries(TEXT, TEXT, max_size=6))
def test_any_text_comes_through_a_form_unchanged(fields: dict[str, str]) -> None:
    expected = {name: value for name, value in fields.items() if name or value}
    encoded = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in expected.items())
    assert form(encoded.encode()) == expected


@given(fields=st.dictionaries(TEXT, TEXT, max_size=6), ascii_only=st.booleans())
def test_any_text_comes_through_json_unchanged(fields: dict[str, str], ascii_only: bool) -> None:
    assert as_json(json.dumps(fields, ensure_ascii=ascii_only)) == fields


@given(body=st.binary(max_size=200), content_type=st.sampled_from([FORM, JSON_TYPE]))
def test_any_bytes_at_all_are_read_or_refused_and_never_crash(body: bytes, content_type: str) -> None:
    try:
        fields = received(body, content_type).require_readable()
    except UnreadableMessage:
        return
    for text in (*fields, *fields.values()):
        assert "\0" not in text
        text.encode("utf-8")


def test_raw_utf8_in_a_form_is_read_too() -> None:
    assert form("Body=Grüße+👋&To=x".encode()) == {"Body": "Grüße 👋", "To": "x"}


def test_empty_values_and_names_without_a_value_are_kept() -> None:
    assert form(b"Body=&Flag&&To=x") == {"Body": "", "Flag": "", "To": "x"}


def test_a_field_that_came_twice_counts_with_its_first_value_and_both_are_kept_to_be_signed() -> None:
    for fields in (received(b"To=a&To=b", FORM), received(b'{"To": "a", "To": "b"}', JSON_TYPE)):
        assert fields.require_readable() == {"To": "a"}
        assert fields.pairs == (("To", "a"), ("To", "b"))


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
def test_forms_are_known_by_their_content_type_however_it_is_written(content_type: str) -> None:
    assert received(b"To=x", content_type).first == {"To": "x"}


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_any_other_content_type_is_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        received(b"To=x", content_type)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Body=%ff%fe", "Body is not valid UTF-8."),
        (b"Body=caf\xe9", "Body is not valid UTF-8."),
        (b"Body=%ED%A0%80", "Body is not valid UTF-8."),
        (b"From=x&ProfileName=%C0%80", "ProfileName is not valid UTF-8."),
        (b"%ff=x", "A field's name is not valid UTF-8."),
        (b"Body=a%00b", "Body contains a NUL character."),
        (b"Bo%00dy=a", "A field's name contains a NUL character."),
        (b"call+me+on+%2B15552223333=%00", "A field contains a NUL character."),
    ],
)
def test_a_form_that_cannot_be_stored_is_refused_by_the_name_of_its_field(body: bytes, message: str) -> None:
    with pytest.raises(UnreadableMessage) as refused:
        form(body)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The body is not valid JSON."),
        ("{", "The body is not valid JSON."),
        ('{"Body": NaN}', "The body is not valid JSON."),
        ('\ufeff{"Body": "x"}', "The body is not valid JSON."),
        ("[" * 60_000, "The body is not valid JSON."),
        ("[]", "The body is not a JSON object."),
        ('"Body"', "The body is not a JSON object."),
        ("null", "The body is not a JSON object."),
        ("12", "The body is not a JSON object."),
        ('[["Body", "x"]]', "The body is not a JSON object."),
        ('{"Body": null}', "Body is neither text nor a number."),
        ('{"Body": {"text": "x"}}', "Body is neither text nor a number."),
        ('{"Body": ["x"]}', "Body is neither text nor a number."),
        (r'{"Body": "\ud800"}', "Body contains half of a character (a lone surrogate)."),
        (r'{"\udfff": "x"}', "A field's name contains half of a character (a lone surrogate)."),
        (r'{"Body": "\u0000"}', "Body contains a NUL character."),
        (b'{"Body": "\xff"}', "The body is not valid UTF-8."),
    ],
)
def test_json_that_cannot_be_read_or_stored_is_refused(body: Any, message: str) -> None:
    with pytest.raises(UnreadableMessage) as refused:
        as_json(body)
    assert refused.value.message == message


def test_numbers_and_booleans_become_the_text_that_they_are() -> None:
    assert as_json('{"NumMedia": 0, "Latitude": 48.10, "Big": 1e999, "Flag": true, "Other": false}') == {
        "NumMedia": "0",
        "Latitude": "48.10",
        "Big": "1e999",
        "Flag": "true",
        "Other": "false",
    }


def test_a_number_of_ten_thousand_digits_is_only_text() -> None:
    assert as_json('{"Body": ' + "9" * 10_000 + "}")["Body"] == "9" * 10_000


def test_whole_characters_in_json_escapes_are_whole() -> None:
    assert as_json(r'{"Body": "\ud83d\ude00"}') == {"Body": "😀"}


def test_json_that_is_unreadable_says_so_only_once_it_is_asked() -> None:
    unread = received(b"{", JSON_TYPE)
    assert unread.first == {}
    with pytest.raises(UnreadableMessage):
        unread.require_readable()


def test_a_refusal_never_quotes_what_was_sent() -> None:
    for body in (b"my+secret=%00", urlencode({"x" * 50: "\0"}).encode(), b"my-secret=%ff"):
        with pytest.raises(UnreadableMessage) as refused:
            form(body)
        assert "secret" not in refused.value.message
        assert "xxx" not in refused.value.message
        assert refused.value.__cause__ is None
