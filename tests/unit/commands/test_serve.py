"""`serve`: what it says when it is ready. What it serves is tests/integration/test_webhook_server.py's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chatbotctl.server import run
from tests.cli import chatbotctl

WARNING = "Signatures are not checked: whoever reaches this address can write as any customer."


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An install whose server is ready at once, and ends."""

    def serve(*_: object, on_ready: Callable[[str], None], **__: object) -> None:
        on_ready("http://127.0.0.1:1")

    monkeypatch.setattr(run, "serve", serve)
    assert chatbotctl("init").code == 0
    yield


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_it_warns_where_there_is_no_auth_token_whatever_it_may_say_else(
    monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setenv("CHATBOTCTL_LOG__LEVEL", "error")
    started = chatbotctl(*flags, "serve")
    assert started.code == 0
    assert WARNING in started.err
    assert ("Serving on" in started.err) == (not flags)


def test_it_warns_where_the_check_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    monkeypatch.setenv("CHATBOTCTL_SERVER__VERIFY_SIGNATURES", "false")
    assert WARNING in chatbotctl("serve").err


def test_it_does_not_warn_where_signatures_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    started = chatbotctl("serve")
    assert "Serving on" in started.err
    assert WARNING not in started.err
