"""What counts as a web address, and what a client or a person would stumble over."""

from __future__ import annotations

import pytest

from chatbotctl.core.web_address import is_web_address


@pytest.mark.parametrize(
    "text",
    [
        "https://bot.example.com",
        "http://127.0.0.1:11434/v1",
        "HTTPS://[::1]:8443/api/",
        "https://user:secret@proxy.example/v1?key=x",
        "https://xn--mnchen-3ya.example",
    ],
)
def test_absolute_http_addresses_are(text: str) -> None:
    assert is_web_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:11434/v1",
        "/v1",
        "ftp://host/v1",
        "https://",
        "https:host",
        "https://:443/v1",
        "https://host:0",
        "https://host:65536",
        "https://host:port",
        "http://[::1/v1",
        "https://host/v 1",
        " https://host",
        "https://host\n",
        "https://münchen.example",
    ],
)
def test_everything_else_is_not(text: str) -> None:
    assert not is_web_address(text)
