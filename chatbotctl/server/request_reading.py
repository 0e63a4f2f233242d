"""Translate in, part one: a webhook's raw bytes to its fields, strictly, so that both stores can hold what comes out.

Flask's own form parsing would turn bytes that are not UTF-8 into an empty Body without a word. Nothing here believes
what the fields say: that comes after the signature (signature.py), with twilio_fields.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from urllib.parse import unquote_to_bytes

from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from chatbotctl.core.errors import UnreadableMessage
from chatbotctl.core.storable_text import is_storable, require_storable

FORM, JSON_TYPE = "application/x-www-form-urlencoded", "application/json"
#: Bytes. Twilio's longest forms have some 10 KB.
MAX_BODY = 64 * 1024

#: Names that may be repeated in an error: Twilio's look like this, and customers' words hardly ever do.
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, kw_only=True)
class ReceivedFields:
    """A request's fields as they were sent; nothing of them is checked yet."""

    #: In order; a field that came twice stands here twice. Empty for JSON that is unreadable.
    pairs: tuple[tuple[str, str], ...]
    #: The body as text, which is what a JSON request's signature covers.
    body: str
    is_json: bool
    #: Why the fields are unreadable: for the caller to know once the signature is checked.
    problem: UnreadableMessage | None = None

    @cached_property
    def first(self) -> dict[str, str]:
        """Each field with its first value."""
        fields: dict[str, str] = {}
        for name, value in self.pairs:
            fields.setdefault(name, value)
        return fields

    def require_readable(self) -> Mapping[str, str]:
        """The fields by name, the first value of each. Raises UnreadableMessage, naming the field."""
        if self.problem is not None:
            raise self.problem
        if not is_storable("".join(chain.from_iterable(self.pairs))):
            for name, value in self.pairs:
                require_storable(name, "A field's name")
                require_storable(value, _named(name))
        return self.first


def read_fields(request: Request) -> ReceivedFields:
    """Read a request's body.

    Raises UnreadableMessage for bytes that are not UTF-8: no signature can be checked over them.
    Raises werkzeug's UnsupportedMediaType (415) and RequestEntityTooLarge (413).
    """
    kind = request.mimetype
    if kind not in (FORM, JSON_TYPE):
        raise UnsupportedMediaType
    raw = request.get_data(cache=False)
    if kind == FORM:
        return ReceivedFields(pairs=tuple(_form_pairs(raw)), body="", is_json=False)
    body = _decoded(raw)
    if body is None:
        raise UnreadableMessage("The body is not valid UTF-8.")
    try:
        return ReceivedFields(pairs=tuple(_json_pairs(body)), body=body, is_json=True)
    except UnreadableMessage as problem:
        return ReceivedFields(pairs=(), body=body, is_json=True, problem=problem)


def _form_pairs(raw: bytes) -> Iterable[tuple[str, str]]:
    for part in raw.split(b"&"):
        if not part:
            continue
        encoded_name, _, encoded_value = part.partition(b"=")
        name = _decoded(_unquoted(encoded_name))
        if name is None:
            raise UnreadableMessage("A field's name is not valid UTF-8.")
        value = _decoded(_unquoted(encoded_value))
        if value is None:
            raise UnreadableMessage(f"{_named(name)} is not valid UTF-8.")
        yield name, value


def _unquoted(part: bytes) -> bytes:
    spaced = part.replace(b"+", b" ")
    return unquote_to_bytes(spaced) if b"%" in spaced else spaced


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object as its pairs, so that a field which stands in it twice is not lost; distinct from an array."""


def _json_pairs(body: str) -> list[tuple[str, str]]:
    try:
        # Numbers stay the text that they are: neither 1e999 nor one of 5,000 digits is worth a crash.
        document = json.loads(
            body, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise UnreadableMessage("The body is not valid JSON.") from None
    if not isinstance(document, _Object):
        raise UnreadableMessage("The body is not a JSON object.")
    return [(name, _json_text(name, value)) for name, value in document]


def _json_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    raise UnreadableMessage(f"{_named(name)} is neither text nor a number.")


def _no_constant(name: str) -> str:
    raise ValueError(name)


def _named(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "A field"
