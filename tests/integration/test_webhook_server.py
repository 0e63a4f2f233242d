"""The real server on a loopback port: what it starts as, its limits, and how it stops on a signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import pytest
import requests
from structlog.testing import capture_logs

from chatbotctl.core import config, secret_key
from chatbotctl.core.errors import ConfigurationError, ConflictError, SchemaMismatch
from chatbotctl.core.flow.crew import UNFINISHED_EXIT_CODE
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import outcomes
from chatbotctl.core.wiring import Core
from chatbotctl.server import listening
from chatbotctl.server.request_reading import MAX_BODY
from chatbotctl.server.run import WebhookServer
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio
from tests.installs import Vendors, add_business, eventually, install, sqlite_database
from tests.integration.webhook_site import FORM, PUBLIC, Gate, pairs, post_to, served, signature, stored


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


@pytest.mark.parametrize(
    "uri", ["http://[::1/whatsapp", "http://a\x1b[0m/whatsapp", "http://[\x1b]/whatsapp", "http://a\u2100b/whatsapp"]
)
def test_a_uri_that_is_none_is_answered_like_other_nonsense(core: Core, uri: str) -> None:
    with served(core) as server, raw_connection(server) as connection:
        connection.sendall(f"POST {uri} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 ")), answer
    assert answer.endswith(b'"code": "bad_request"}')


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"POST /whatsapp HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"POST /whatsapp HTTP/1.1\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (b"", b"\r\n\r\n"),
    ],
)
def test_a_request_that_comes_in_drop_by_drop_holds_its_connection_for_a_while_only(
    core: Core, monkeypatch: pytest.MonkeyPatch, start: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(listening, "UNFINISHED_SECONDS", 0.5)
    monkeypatch.setattr(listening, "SWEEP_SECONDS", 0.05)
    with served(core) as server, raw_connection(server) as slow, raw_connection(server) as calm:
        slow.sendall(start)
        slow.settimeout(0.1)
        eventually(lambda: is_closed(slow, drop))
        calm.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert calm.recv(4096).startswith(b"HTTP/1.1 200 "), "has begun nothing before"


def test_between_requests_a_connection_is_idle_and_not_slow(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "UNFINISHED_SECONDS", 0.2)
    monkeypatch.setattr(listening, "SWEEP_SECONDS", 0.05)
    with served(core) as server, raw_connection(server) as connection:
        for part in (b"GET /healthz HT", b"TP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            connection.sendall(part)
            if part.endswith(b"\r\n\r\n"):
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200 ")
                time.sleep(0.5)


def test_a_request_behind_one_that_is_worked_on_is_not_slow(
    core: Core, gate: Gate, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the loop sleeps: that it looked while the first one was worked on is what is asked.
    monkeypatch.setattr(listening, "UNFINISHED_SECONDS", 2.0)
    monkeypatch.setattr(listening, "SWEEP_SECONDS", 0.05)
    fields = pairs()
    body = urlencode(fields)
    head = "\r\n".join(
        (
            "POST /whatsapp HTTP/1.1\r\nHost: x",
            f"Content-Type: {FORM}\r\nContent-Length: {len(body)}",
            f"X-Twilio-Signature: {signature(fields)['X-Twilio-Signature']}",
        )
    )
    with served(core) as server, raw_connection(server) as connection:
        connection.sendall(f"{head}\r\n\r\n{body}GET /healthz HTTP/1.1\r\n".encode())
        eventually(lambda: fake_openai.asked)
        time.sleep(2.5)
        gate.open()
        answer = b""
        while not answer.endswith(b'{"success": true}'):
            answer += connection.recv(4096)
        connection.sendall(b"Host: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


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
    assert warned == [("error", "signatures_not_verified")]


@pytest.mark.parametrize(
    ("setting", "value"), [("public_url", "https://bot.example.com"), ("trusted_proxies", ("127.0.0.1",))]
)
def test_without_an_auth_token_it_does_not_start_where_a_proxy_brings_the_world(
    tmp_path: Path, setting: str, value: object
) -> None:
    flags = {("server", setting): value}
    with install(flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with pytest.raises(ConfigurationError) as refused:
            WebhookServer(core, host="127.0.0.1", port=0)
    assert f"server.{setting}" in refused.value.message
    assert "TWILIO_AUTH_TOKEN" in (refused.value.hint or "")


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_with_a_tenants_token_alone_it_starts_anywhere_and_takes_nothing_unsigned(tmp_path: Path, host: str) -> None:
    with install(database_url=sqlite_database(tmp_path)) as core:
        secret_key.make(tmp_path)
        add_business(core)
        tenant = add_business(core, "forge", "whatsapp:+15550002222")
        with core.database.write() as tx:
            core.vault.store(tx, tenant, "twilio", f"{ACCOUNT}:{TOKEN}")
        server = WebhookServer(core, host=host, port=0, run_worker=False)
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
    assert [log["log_level"] for log in logs if log["event"] == "signatures_not_verified"] == ["error"]


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
        left = outcomes.of_message(tx, dict(fields)["MessageSid"])
    assert left is not None
    assert left.result is Result.QUEUED


def test_slack_that_hangs_does_not_hold_the_process(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slack.plan(times=99, delay=60)
    for name, value in {
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SLACK_API_BASE_URL": fake_slack.api_url,
        "CHATBOTCTL_SLACK__TIMEOUT_SECONDS": "60",
        "CHATBOTCTL_SLACK__CHANNEL_NAME_TEMPLATE": "c-{customer}",
    }.items():
        monkeypatch.setenv(name, value)
    with Process(core, fake_openai, fake_twilio, drain_seconds=0.5) as process:
        assert post_to(process.url, pairs()).json() == {"success": True}
        eventually(lambda: fake_slack.requests)
        process.signal(signal.SIGTERM)
        began = time.monotonic()

        assert process.ended() == 0, "every turn was finished"

        assert time.monotonic() - began < 20
    assert [line for line in process.log if '"drained"' in line]


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


def is_closed(connection: socket.socket, drop: bytes) -> bool:
    """Whether the other side has closed it; sends one drop more if not."""
    try:
        connection.sendall(drop)
        return connection.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def is_refused(url: str) -> bool:
    """Whether nothing listens there any more."""
    try:
        requests.get(f"{url}/healthz", timeout=30)
    except requests.ConnectionError:
        return True
    return False
