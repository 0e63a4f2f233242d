"""A process keeps to its connections: many turns share a few, and to wait in vain for one loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import event, text
from structlog.testing import capture_logs

from chatbotctl.core.config import Key
from chatbotctl.core.wiring import Core
from tests import installs
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, eventually, install, running, take_in

CONNECTIONS = 2
FLAGS: dict[Key, object] = {
    ("database", "pool_size"): CONNECTIONS,
    ("worker", "concurrency"): 16,
    ("worker", "lease_seconds"): 1,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def core(
    request: pytest.FixtureRequest, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> Iterator[Core]:
    if request.param == "sqlite":
        url = installs.sqlite_database(tmp_path)
    else:
        url = request.getfixturevalue("postgres_store")
        installs.empty_postgres(url)
    with install(Vendors(openai=fake_openai, twilio=fake_twilio), flags=FLAGS, database_url=url) as core:
        add_business(core)
        yield core


def write(core: Core, customers: int) -> None:
    for number in range(customers):
        take_in(core, "Hello", sender=f"whatsapp:+1555222{number:04}")


def test_sixteen_turns_at_once_share_two_connections(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.thinking = 0.3
    write(core, 24)
    most = 0

    def note_checkout(*_: object) -> None:
        nonlocal most
        most = max(most, pool.checkedout())  # type: ignore[attr-defined]

    pool = core.database.engine.pool
    event.listen(pool, "checkout", note_checkout)
    with capture_logs() as logs, running(core):
        eventually(lambda: len(fake_twilio.sent()) == 24)
    assert 0 < most <= CONNECTIONS
    assert [log for log in logs if log["event"] in ("worker_paused", "storage_unavailable")] == []


def test_a_worker_that_waits_in_vain_for_a_connection_goes_on_later_and_loses_nothing(
    core: Core, fake_twilio: FakeTwilio
) -> None:
    write(core, 4)
    core.database.engine.pool._timeout = 0.2  # type: ignore[attr-defined]
    with capture_logs() as logs, ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(core.database.read()).execute(text("SELECT 1"))
        with running(core):
            eventually(lambda: any(log["event"] == "worker_paused" for log in logs))
            assert fake_twilio.sent() == []
            held.close()
            eventually(lambda: len(fake_twilio.sent()) == 4)
    assert any(log["event"] == "worker_resumed" for log in logs)
