"""What every test may ask for: real servers, fakes of the vendors, and nothing of the machine's own environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from tests import services

if TYPE_CHECKING:
    from tests.fakes.google_server import FakeGoogleTranslate
    from tests.fakes.openai_server import FakeOpenAI
    from tests.fakes.slack_server import FakeSlack
    from tests.fakes.twilio_server import FakeTwilio

_PREFIXES = ("CHATBOTCTL_", "OPENAI_", "TWILIO_", "SLACK_", "REDIS_", "GOOGLE_")
_NAMES = {
    "DATABASE_URL",
    "PUBLIC_URL",
    "TARGET_LANGUAGE",
    "TRANSLATE_ENDPOINT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
}


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No setting of the machine reaches a test: a home and a working folder of its own, and no known variable set.

    And none of a test before it: commands set up the log of their process.
    """
    structlog.reset_defaults()
    for name in list(os.environ):
        if name.upper().startswith(_PREFIXES) or name.upper() in _NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CHATBOTCTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A Redis for the whole run. Tests ask for `redis_url`."""
    with services.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL for the whole run. Tests ask for `postgres_url`."""
    with services.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_store(postgres_server: str) -> Iterator[str]:
    """A migrated PostgreSQL database's URL, for the whole run: a test empties it, which is quicker than making one."""
    from tests import installs

    with services.fresh_database(postgres_server) as url:
        installs.migrate_database(url)
        yield url


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT means what Ctrl-C does, here and in processes that are started: whoever runs the tests in the background
    has it ignored, and that is inherited.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database of this test's own."""
    with services.fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def fake_twilio() -> Iterator[FakeTwilio]:
    """Twilio, with one account: twilio_server.ACCOUNT and TOKEN."""
    from tests.fakes.twilio_server import FakeTwilio

    with FakeTwilio() as fake:
        yield fake


@pytest.fixture
def fake_google() -> Iterator[FakeGoogleTranslate]:
    """Google Translate."""
    from tests.fakes.google_server import FakeGoogleTranslate

    with FakeGoogleTranslate() as fake:
        yield fake


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    """OpenAI."""
    from tests.fakes.openai_server import FakeOpenAI

    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def fake_slack() -> Iterator[FakeSlack]:
    """Slack."""
    from tests.fakes.slack_server import FakeSlack

    with FakeSlack() as fake:
        yield fake
