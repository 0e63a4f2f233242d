"""`worker`: what it says when it is ready, and when it does not start. How it works is tests/acceptance's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatbotctl.core.flow.services import Services
from chatbotctl.core.wiring import Core
from chatbotctl.server import work as server_work
from tests.cli import chatbotctl

PRINTED = "replies are printed here instead of sent"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Services]:
    """What a worker would work with; it is ready at once, and ends."""
    seen: list[Services] = []

    def work(core: Core, *, on_ready: Callable[[str], None]) -> None:
        seen.append(core.services)
        on_ready("machine-1-abcd")

    monkeypatch.setattr(server_work, "work", work)
    return seen


def test_it_says_its_name_and_that_nothing_can_be_sent(started: list[Services]) -> None:
    chatbotctl("init")
    run = chatbotctl("worker")
    assert run.code == 0
    assert "Working as machine-1-abcd." in run.err
    assert PRINTED in run.err


def test_with_an_account_replies_are_sent(started: list[Services], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    chatbotctl("init")
    assert PRINTED not in chatbotctl("worker").err


def test_its_flag_beats_the_setting(started: list[Services], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_WORKER__CONCURRENCY", "7")
    chatbotctl("init")
    chatbotctl("worker", "--concurrency", "3")
    chatbotctl("worker")
    assert [services.settings.worker.concurrency for services in started] == [3, 7]


def test_it_does_not_start_on_a_database_without_tables(started: list[Services]) -> None:
    run = chatbotctl("worker")
    assert (run.code, started) == (6, [])
    assert "chatbotctl db upgrade" in run.err


@pytest.mark.parametrize("wrong", ["0", "2001", "many"])
def test_a_concurrency_that_is_none_is_a_usage_error(started: list[Services], wrong: str) -> None:
    assert chatbotctl("worker", "--concurrency", wrong).code == 2
