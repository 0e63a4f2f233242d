"""Which URL Twilio called, and whose word about it counts."""

from __future__ import annotations

from typing import Any

import pytest

from chatbotctl.server.signature import TrustedProxies, called_url

ENVIRON = {
    "wsgi.url_scheme": "http",
    "HTTP_HOST": "internal:8080",
    "SERVER_NAME": "waitress.invalid",
    "REMOTE_ADDR": "10.0.0.5",
    "REQUEST_URI": "/whatsapp",
    "PATH_INFO": "/whatsapp",
    "QUERY_STRING": "",
}
FORWARDED = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "bot.example.com"}


def url(*, public_url: str | None = None, proxies: tuple[str, ...] = (), **environ: Any) -> str:
    return called_url({**ENVIRON, **environ}, public_url=public_url, proxies=TrustedProxies(proxies))


@pytest.mark.parametrize(
    "target", ["/whatsapp", "/whatsapp?", "/whatsapp?a=b&bodySHA256=%2f%2F", "/%77hatsapp?x=%C3%BC"]
)
def test_the_public_url_is_followed_by_path_and_query_to_the_letter(target: str) -> None:
    called = url(public_url="https://bot.example.com/hooks", REQUEST_URI=target, **FORWARDED)
    assert called == "https://bot.example.com/hooks" + target


def test_without_a_public_url_it_is_the_requests_own() -> None:
    assert url() == "http://internal:8080/whatsapp"
    assert url(REQUEST_URI="/whatsapp?a=b") == "http://internal:8080/whatsapp?a=b"


def test_a_stranger_cannot_say_how_the_server_was_called() -> None:
    assert url(**FORWARDED) == "http://internal:8080/whatsapp"
    assert url(proxies=("10.0.0.6", "192.168.0.0/16"), **FORWARDED) == "http://internal:8080/whatsapp"


@pytest.mark.parametrize(
    "proxies", [("10.0.0.5",), ("10.0.0.0/8",), ("192.168.0.1", " 10.0.0.0/24 "), ("10.0.0.9/24",)]
)
def test_a_trusted_proxy_can(proxies: tuple[str, ...]) -> None:
    assert url(proxies=proxies, **FORWARDED) == "https://bot.example.com/whatsapp"


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.5", "fd00::1"])
def test_a_trusted_proxy_may_come_by_ipv6(peer: str) -> None:
    called = url(proxies=("10.0.0.5", "fd00::/8"), **FORWARDED, REMOTE_ADDR=peer)
    assert called == "https://bot.example.com/whatsapp"


@pytest.mark.parametrize("peer", [None, "", "localhost", "10.0.0.5:99"])
def test_a_peer_without_an_address_is_trusted_by_nobody(peer: str | None) -> None:
    assert url(proxies=("0.0.0.0/0", "::/0"), **FORWARDED, REMOTE_ADDR=peer) == "http://internal:8080/whatsapp"


def test_of_a_chain_only_what_the_trusted_proxy_itself_wrote_counts() -> None:
    forged = {"HTTP_X_FORWARDED_PROTO": "gopher, https", "HTTP_X_FORWARDED_HOST": "evil.example.com, bot.example.com"}
    assert url(proxies=("10.0.0.5",), **forged) == "https://bot.example.com/whatsapp"


def test_a_trusted_proxy_that_says_half_leaves_the_other_half() -> None:
    assert url(proxies=("10.0.0.5",), HTTP_X_FORWARDED_PROTO="https") == "https://internal:8080/whatsapp"
    assert url(proxies=("10.0.0.5",), HTTP_X_FORWARDED_HOST="") == "http://internal:8080/whatsapp"


def test_a_target_that_is_a_whole_url_is_read_for_its_path() -> None:
    called = url(public_url="https://bot.example.com", REQUEST_URI="http://elsewhere/whatsapp?a=b")
    assert called == "https://bot.example.com/whatsapp?a=b"


def test_a_wsgi_server_that_does_not_tell_the_raw_target_is_served_too() -> None:
    assert url(REQUEST_URI=None, RAW_URI="/whatsapp?x") == "http://internal:8080/whatsapp?x"
    rebuilt = url(REQUEST_URI=None, SCRIPT_NAME="/bot", PATH_INFO="/whats app", QUERY_STRING="a=b")
    assert rebuilt == "http://internal:8080/bot/whats%20app?a=b"


def test_a_request_without_a_host_still_has_a_url() -> None:
    assert url(HTTP_HOST=None) == "http://waitress.invalid/whatsapp"
