"""Kinds of values that settings have, each with the check and the words that config.py's errors use."""

from __future__ import annotations

import ipaddress
import string
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from chatbotctl.core.language_tag import language_tag
from chatbotctl.core.web_address import is_web_address

#: What a channel's name may be made of.
_CHANNEL_FIELDS = frozenset({"thread_id", "business", "number", "customer"})


def _web_address(value: str) -> str:
    if not is_web_address(value):
        raise ValueError("must be a web address, which begins with https:// or http://")
    return value


def _slack_api(value: str) -> str:
    if not value.rstrip("/").endswith("/api"):
        raise ValueError("must end in /api/, like https://slack.com/api/")
    return value.rstrip("/") + "/"


def _language(value: str) -> str:
    tag = language_tag(value)
    if tag is None:
        raise ValueError("must be a language tag, like en, de, pt-BR or zh-Hant")
    return tag


def _channel_name(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    try:
        # Not the plain format(): {thread_id.__class__} would pass, and become part of a channel's name.
        fields = {field for _, field, _, _ in string.Formatter().parse(value) if field is not None}
        value.format(**dict.fromkeys(_CHANNEL_FIELDS, "1"))
    except (LookupError, ValueError, AttributeError):
        fields = {""}
    if not fields <= _CHANNEL_FIELDS:
        raise ValueError("may use {thread_id}, {business}, {number} and {customer} only")
    return value


def _list(value: object) -> object:
    """A list may also be written in one text, as the environment has it: `10.0.0.1, 10.0.0.2`."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in value:
            ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as exc:
        raise ValueError("has an entry that is no IP address or network, like 10.0.0.5 or 192.168.0.0/16") from exc
    return value


WebAddress = Annotated[str, AfterValidator(_web_address)]
SlackApi = Annotated[WebAddress, AfterValidator(_slack_api)]
Language = Annotated[str, AfterValidator(_language)]
ChannelName = Annotated[str, AfterValidator(_channel_name)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_list), AfterValidator(_networks)]
