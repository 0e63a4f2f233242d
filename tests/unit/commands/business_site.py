"""What the tests of `business ...` share: an install that the command line finds by its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatbotctl.core import secret_key
from chatbotctl.core.wiring import Core
from tests import installs
from tests.cli import Run, chatbotctl
from tests.fakes.openai_server import FakeOpenAI

NUMBER = "whatsapp:+15550001111"


def set_up(monkeypatch: pytest.MonkeyPatch, folder: Path, fake: FakeOpenAI | None = None) -> None:
    """An install with a migrated database and a key, and with OpenAI where a fake is given."""
    monkeypatch.setenv("DATABASE_URL", installs.sqlite_database(folder))
    secret_key.make(folder)
    if fake is not None:
        fake.vector_stores.polls = 0
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        monkeypatch.setenv("CHATBOTCTL_OPENAI__MODEL", "gpt-test")
        monkeypatch.setenv("CHATBOTCTL_OPENAI__ATTEMPTS", "1")


@contextmanager
def core(**values: object) -> Iterator[Core]:
    """The Core of the same install, for what no command does; `values` are worker settings."""
    flags: Mapping[tuple[str, str], object] = {("worker", key): value for key, value in values.items()}
    with installs.install(flags=flags) as opened:
        yield opened


def add(name: str = "luna", *options: str, number: str = NUMBER) -> Run:
    """Add a business that answers offline, unless the options say otherwise."""
    given = options if "--backend" in options else ("--backend", "knowledge", *options)
    run = chatbotctl("business", "add", name, "--number", number, *given)
    assert run.code == 0, run.err
    return run


def show(name: str = "luna") -> dict[str, object]:
    """The business as `business show --json` has it."""
    run = chatbotctl("business", "show", name, "--json")
    assert run.code == 0, run.err
    shown: dict[str, object] = run.json
    return shown
