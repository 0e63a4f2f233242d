"""Installs to test from the outside: on one machine's means, and on PostgreSQL with Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.install import Install, Vendors
from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio


@pytest.fixture
def vendors(
    fake_twilio: FakeTwilio, fake_openai: FakeOpenAI, fake_slack: FakeSlack, fake_google: FakeGoogleTranslate
) -> Vendors:
    """Twilio, OpenAI, Slack and Google."""
    return Vendors(fake_twilio, fake_openai, fake_slack, fake_google)


@pytest.fixture
def empty_install(tmp_path: Path) -> Iterator[Install]:
    """An install of nobody: no config, no database, no vendor."""
    install = Install(tmp_path, {})
    yield install
    install.close()


@pytest.fixture
def install(tmp_path: Path, vendors: Vendors) -> Iterator[Install]:
    """An install on SQLite and the in-process cache, pointed at the vendors, with nobody in it yet."""
    made = Install(tmp_path, vendors.environment)
    made.ok("init")
    yield made
    made.close()


@pytest.fixture(params=["sqlite and memory", "postgresql and redis"])
def any_install(request: pytest.FixtureRequest, tmp_path: Path, vendors: Vendors) -> Iterator[Install]:
    """The same on both kinds of storage."""
    environment = vendors.environment
    if request.param == "postgresql and redis":
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
        environment["REDIS_URL"] = request.getfixturevalue("redis_url")
    made = Install(tmp_path, environment)
    made.ok("init")
    yield made
    made.close()


@pytest.fixture
def shared_install(tmp_path: Path, vendors: Vendors, postgres_url: str, redis_url: str) -> Iterator[Install]:
    """An install on PostgreSQL and Redis."""
    made = Install(tmp_path, {**vendors.environment, "DATABASE_URL": postgres_url, "REDIS_URL": redis_url})
    made.ok("init")
    yield made
    made.close()
