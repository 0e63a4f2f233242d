"""The real server on a loopback port: what it starts as, its limits, and how it stops on a signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import requests
from structlog.testing import capture_logs

from chatbotctl.core import config, secret_key
from chatbotctl.core.errors import ConfigurationError, ConflictError, SchemaMismatch
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import turns
from chatbotctl.core.wiring import Core
from chatbotctl.server.request_reading import MAX_BODY
from chatbotctl.server.run import UNFINISHED_EXIT_CODE, WebhookServer
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio
from tests.installs import Vendors, add_business, eventually, install, sqlite_database
from tests.integration.webhook_bench import FORM, PUBLIC, Gate, pairs, post_to, served, stored


@pytest.fixture
def gate(fake_openai: FakeOpenAI) -> Iterator[Gate]:
    """An assistant that thinks until the gate is opened."""
    gate = Gate()
    fake_openai.reply = gate
    yield gate
    gate.open()


@pytest.fixture
def core(tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Iterator[Core]:
    vendors = Vendors(openai=fake_openai, twilio=fake_twilio)
    with install(vendors, flags=PUBLIC, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        yield core


# what it answers


def test_a_signed_message_is_answered_over_http(core: Core, fake_twilio: FakeTwilio) -> None:
    with served(core) as server:
        response = post_to(server.url, pairs("hello"))
    assert (response.status_code, response.json()) == (200, {"success": True})
    assert response.headers["Content-Type"] == "application/json"
    assert "Server" not in response.headers
    assert fake_twilio.sent() == ["You said: hello"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [MAX_BODY + 1, 300_000])
def test_a_body_beyond_64_kib_is_refused_in_json(core: Core, size: int, chunked: bool) -> None:
    with served(core) as server:
        body = b"x" * size
        data = iter([body[:1000], body[1000:]]) if chunked else body
        response = requests.post(f"{server.url}/whatsapp", data=data, headers={"Content-Type": FORM}, timeout=30)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200


def test_what_is_no_http_gets_an_answer_that_names_no_software(core: Core) -> None:
    with served(core) as server, raw_connection(server) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(b'{"error": "The request is not readable as HTTP.", "code": "bad_request"}')
    assert b"waitress" not in answer


def test_many_idle_connections_shut_nobody_out(core: Core) -> None:
    with served(core) as server, ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(raw_connection(server))
        assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200


def test_without_a_worker_messages_are_stored_for_another_process(core: Core, fake_twilio: FakeTwilio) -> None:
    with served(core, run_worker=False) as server, ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post_to, server.url, pairs())
        eventually(lambda: stored(core) == 1)
        server.stop()
        assert posted.result(30).json() == {"success": True, "queued": True}
    assert fake_twilio.sent() == []


# what it starts as


def test_a_port_in_use_is_a_conflict_and_not_a_traceback(core: Core) -> None:
    with served(core) as server, pytest.raises(ConflictError) as refused:
        WebhookServer(core, host="127.0.0.1", port=int(server.url.rpartition(":")[2]))
    assert "in use" in refused.value.message
    assert refused.value.hint


def test_a_database_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    core = Core(config.load(flags={("database", "url"): f"sqlite:///{tmp_path / 'empty.db'}"}))
    with pytest.raises(SchemaMismatch):
        WebhookServer(core, host="127.0.0.1", port=0)
    core.close()


def test_without_an_auth_token_it_starts_on_a_loopback_address_only_and_says_so(tmp_path: Path) -> None:
    with install(database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with pytest.raises(ConfigurationError) as refused:
            WebhookServer(core, host="0.0.0.0", port=0)
        assert "TWILIO_AUTH_TOKEN" in (refused.value.hint or "")
        with capture_logs() as logs, served(core) as server:
            fields = dict(pairs())
            unsigned = requests.post(f"{server.url}/whatsapp", data=fields, timeout=30)
        assert unsigned.json()["code"] == "assistant_not_usable", "it was let in"
    warned = [(log["log_level"], log["event"]) for log in logs if log["event"] == "signatures_not_verified"]
    assert warned == [("warning", "signatures_not_verified")]


def test_with_a_tenants_token_alone_it_starts_anywhere_and_takes_nothing_unsigned(tmp_path: Path) -> None:
    with install(database_url=sqlite_database(tmp_path)) as core:
        secret_key.make(tmp_path)
        add_business(core)
        tenant = add_business(core, "forge", "whatsapp:+15550002222")
        with core.database.write() as tx:
            core.vault.store(tx, tenant, "twilio", f"{ACCOUNT}:{TOKEN}")
        server = WebhookServer(core, host="0.0.0.0", port=0, run_worker=False)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(server.run)
            url = server.url.replace("0.0.0.0", "127.0.0.1")
            answer = requests.post(f"{url}/whatsapp", data=dict(pairs()), timeout=30)
            server.stop()
            assert running.result(30) is True
    assert (answer.status_code, answer.json()["code"]) == (403, "bad_signature")


def test_with_verification_turned_off_it_starts_anywhere_and_warns(tmp_path: Path) -> None:
    flags = {("server", "verify_signatures"): False}
    with install(flags=flags, database_url=sqlite_database(tmp_path)) as core, capture_logs() as logs:
        server = WebhookServer(core, host="0.0.0.0", port=0, run_worker=False)
        server.stop()
        assert server.run() is True
    assert [log["log_level"] for log in logs if log["event"] == "signatures_not_verified"] == ["warning"]


# how it stops


class Process:
    """`chatbotctl serve` as a process of its own, on the test's database and fakes."""

    def __init__(self, core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, **server: object) -> None:
        settings = {
            "DATABASE_URL": core.loaded.database_url,
            "PUBLIC_URL": str(PUBLIC["server", "public_url"]),
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": fake_openai.base_url,
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_API_BASE_URL": fake_twilio.url,
            "CHATBOTCTL_OPENAI__MODEL": "gpt-test",
            "CHATBOTCTL_WORKER__QUIET_SECONDS": "0",
            "CHATBOTCTL_LOG__FORMAT": "json",
        } | {f"CHATBOTCTL_SERVER__{name.upper()}": str(value) for name, value in server.items()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chatbotctl", "serve", "--port", "0"],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.url = self._read_until(r"http://127\.0\.0\.1:\d+")

    def _read_until(self, pattern: str) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            found = re.search(pattern, line)
            if found:
                return found[0]
        raise AssertionError("it ended before it said so: " + "".join(self.log))

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def draining(self) -> None:
        """Wait until the process has begun to drain."""
        self._read_until('"draining"')

    def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self._process.wait(60)
        assert self._process.stderr is not None
        self.log.extend(self._process.stderr)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_signal_the_turn_in_flight_is_finished_and_its_request_answered(
    core: Core, gate: Gate, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, number: int
) -> None:
    with Process(core, fake_openai, fake_twilio) as process, ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post_to, process.url, pairs("the last one"))
        eventually(lambda: fake_openai.asked)
        process.signal(number)
        process.draining()
        eventually(lambda: is_refused(process.url))
        assert not posted.done()
        gate.open()
        assert posted.result(60).json() == {"success": True}
        assert process.ended() == 0
    assert fake_twilio.sent() == ["You said: the last one"]
    assert not [line for line in process.log if "Traceback" in line]


def test_a_turn_that_outlasts_the_drain_stays_stored_and_its_request_is_told_so(
    core: Core, gate: Gate, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fields = pairs("too slow")
    with Process(core, fake_openai, fake_twilio, drain_seconds=0.2) as process, ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post_to, process.url, fields)
        eventually(lambda: fake_openai.asked)
        process.signal(signal.SIGTERM)
        assert posted.result(60).json() == {"success": True, "queued": True}
        assert process.ended() == UNFINISHED_EXIT_CODE
    assert fake_twilio.sent() == []
    with core.database.read() as tx:
        left = turns.outcome(tx, dict(fields)["MessageSid"])
    assert left is not None
    assert left.result is Result.QUEUED


def test_a_second_signal_ends_it_at_once(
    core: Core, gate: Gate, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    with Process(core, fake_openai, fake_twilio) as process, ThreadPoolExecutor(1) as pool:
        posted = pool.submit(post_to, process.url, pairs())
        eventually(lambda: fake_openai.asked)
        process.signal(signal.SIGTERM)
        process.draining()
        process.signal(signal.SIGTERM)
        assert process.ended() == 128 + signal.SIGTERM
        with pytest.raises(requests.ConnectionError):
            posted.result(60)
    assert stored(core) == 1


def raw_connection(server: WebhookServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30)


def is_refused(url: str) -> bool:
    """Whether nothing listens there any more."""
    try:
        requests.get(f"{url}/healthz", timeout=30)
    except requests.ConnectionError:
        return True
    return False
