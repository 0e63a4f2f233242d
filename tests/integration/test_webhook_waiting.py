"""How long a request waits, and that those who wait never shut out those who come."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, eventually, install, running, sqlite_database
from tests.integration.webhook_site import PUBLIC, Gate, pairs, post, post_to, served, stored


@pytest.fixture
def core(tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, gate: Gate) -> Iterator[Core]:
    vendors = Vendors(openai=fake_openai, twilio=fake_twilio)
    # Up to two requests wait: half of the threads.
    flags = {**PUBLIC, ("server", "threads"): 4}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        yield core


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04}"


def test_more_requests_than_may_wait_are_queued_at_once(core: Core, gate: Gate, fake_openai: FakeOpenAI) -> None:
    app = create_app(core)
    with running(core), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, app.test_client(), pairs(From=customer(number))) for number in range(2)]
        eventually(lambda: len(fake_openai.asked) == 2)
        for number in range(2, 7):
            response = post(app.test_client(), pairs(From=customer(number)))
            assert response.json == {"success": True, "queued": True}
        gate.open()
        assert [future.result(30).json for future in waiting] == [{"success": True}] * 2
        # Who is done waiting makes room.
        assert post(app.test_client(), pairs(From=customer(9))).json == {"success": True}


def test_a_slow_assistant_never_takes_the_threads_that_take_messages_in(
    core: Core, gate: Gate, fake_twilio: FakeTwilio
) -> None:
    with served(core) as server:
        with ThreadPoolExecutor(12) as pool:
            posted = [pool.submit(post_to, server.url, pairs(From=customer(number))) for number in range(12)]
            # The gate is closed: all but the two that may wait are answered, and so is everybody else who asks.
            eventually(lambda: sum(future.done() for future in posted) == 10)
            assert requests.get(f"{server.url}/readyz", timeout=30).status_code == 200
            assert stored(core) == 12
            gate.open()
            answers = [future.result(30) for future in posted]
        assert [answer.status_code for answer in answers] == [200] * 12
        assert sum("queued" not in answer.json() for answer in answers) == 2
        eventually(lambda: len(fake_twilio.sent()) == 12)


def test_nobody_waits_where_none_may(core: Core, tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    flags = {**PUBLIC, ("server", "max_waiting"): 0}
    with install(Vendors(openai=fake_openai), flags=flags, database_url=core.loaded.database_url) as without_room:
        client = create_app(without_room, allow_unsigned=True).test_client()
        assert post(client, pairs()).json == {"success": True, "queued": True}
