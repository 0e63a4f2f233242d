"""Whole installs between the vendors' fakes: embedded (SQLite, a cache in the process) and scaled out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.config import Key
from chatbotctl.core.wiring import Core
from tests import installs
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, install
from tests.integration.webhook_site import Gate

#: Channels are named after the customer: a name with the AI thread waits until there is one.
NAMED_AFTER_CUSTOMER: dict[Key, object] = {("slack", "channel_name_template"): "customer-{customer}"}


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack) -> Vendors:
    """An AI provider, a WhatsApp account and a Slack workspace."""
    fake_openai.threads.polls = 1
    return Vendors(openai=fake_openai, twilio=fake_twilio, slack=fake_slack)


@pytest.fixture
def gate(fake_openai: FakeOpenAI) -> Iterator[Gate]:
    """An assistant that thinks until the gate is opened."""
    gate = Gate()
    fake_openai.reply = gate
    yield gate
    gate.open()


@pytest.fixture
def site(vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    """An embedded install with all vendors."""
    with install(vendors, flags=NAMED_AFTER_CUSTOMER, database_url=installs.sqlite_database(tmp_path)) as core:
        yield core


def stores_of(request: pytest.FixtureRequest, tmp_path: Path, *, is_embedded: bool) -> dict[str, str]:
    """Empty stores, as `install` takes them: an SQLite file, or PostgreSQL and Redis."""
    if is_embedded:
        return {"database_url": installs.sqlite_database(tmp_path)}
    database_url: str = request.getfixturevalue("postgres_store")
    installs.empty_postgres(database_url)
    return {"database_url": database_url, "redis_url": request.getfixturevalue("redis_url")}


@pytest.fixture(params=["sqlite+memory", "postgresql+redis"])
def any_site(request: pytest.FixtureRequest, vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    """An install with all vendors, embedded and scaled out."""
    stores = stores_of(request, tmp_path, is_embedded=request.param == "sqlite+memory")
    with install(vendors, flags=NAMED_AFTER_CUSTOMER, **stores) as core:
        yield core
