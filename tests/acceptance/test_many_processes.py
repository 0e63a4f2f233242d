"""Several servers and workers on one database: they share the work, come and go, and lose nothing by it."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
import requests

from tests.acceptance.install import ANA, COMMAND, PATIENCE, SHOP, Install, Process, Server, Vendors, wait_for
from tests.breakable_servers import BreakablePostgres
from tests.services import administrator

QUICK = {
    "CHATBOTCTL_WORKER__QUIET_SECONDS": "0",
    "CHATBOTCTL_WORKER__SWEEP_SECONDS": "0.2",
    "CHATBOTCTL_WORKER__LEASE_SECONDS": "1",
    "CHATBOTCTL_LOG__FORMAT": "json",
}
#: A Redis of nobody.
NO_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture
def many(shared_install: Install) -> Install:
    """An install on PostgreSQL and Redis with a business, quick to take over."""
    shared_install.environment |= QUICK
    shared_install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat")
    return shared_install


def customer(number: int) -> str:
    return f"whatsapp:+1555765{number:04d}"


def turns_ended(*processes: Process) -> int:
    return sum(process.log.count('"turn_ended"') for process in processes)


def test_what_any_server_takes_in_any_worker_answers_once(many: Install, vendors: Vendors) -> None:
    servers = [many.serve("--no-worker") for _ in range(2)]
    workers = [many.worker() for _ in range(2)]

    def write(number: int) -> list[dict[str, bool]]:
        # Every server gets a copy, as when Twilio tries again elsewhere.
        form = {"From": customer(number), "MessageSid": f"SM{number}"}
        return [many.write(server, f"Hello {number}", **form).json() for server in servers]

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for both in pool.map(write, range(16)) for answer in both]
    assert all(answer["success"] for answer in answers)
    wait_for("all replies", lambda: turns_ended(*workers) >= 16)
    assert sorted(vendors.twilio.sent()) == sorted(f"You said: Hello {number}" for number in range(16))
    assert turns_ended(*workers) == 16
    assert turns_ended(*servers) == 0
    wait_for("all lines in Slack", lambda: sum(len(c.messages) for c in vendors.slack.channels.values()) == 32)
    assert [process.stop() for process in (*workers, *servers)] == [0] * 4


@pytest.mark.parametrize("stores", ["sqlite", "postgresql without redis"])
def test_without_redis_the_sweepers_find_what_is_due(
    stores: str, request: pytest.FixtureRequest, tmp_path: Path, vendors: Vendors
) -> None:
    environment = {**vendors.environment, **QUICK}
    if stores != "sqlite":
        environment |= {"DATABASE_URL": request.getfixturevalue("postgres_url"), "REDIS_URL": NO_REDIS}
    install = Install(tmp_path, environment)
    try:
        install.ok("init")
        install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat")
        server, workers = install.serve("--no-worker"), [install.worker(), install.worker()]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: install.write(server, f"Hello {n}", From=customer(n)).json(), range(8)))
        assert all(answer["success"] for answer in answers)
        wait_for("all replies", lambda: turns_ended(*workers) >= 8)
        assert sorted(vendors.twilio.sent()) == [f"You said: Hello {number}" for number in range(8)]
        assert turns_ended(*workers) == 8
    finally:
        install.close()


def test_a_worker_that_is_killed_in_mid_turn_is_taken_over_by_another(many: Install, vendors: Vendors) -> None:
    server, first = many.serve("--no-worker"), many.worker()
    vendors.openai.thinking = 60.0
    answer = many.write(server, "Hello", MessageSid="SM1")
    assert answer.json() == {"success": True, "queued": True}
    wait_for("the assistant being asked", lambda: vendors.openai.asked)
    second = many.worker()
    vendors.openai.thinking = 0.0
    first.kill()
    wait_for("the reply", lambda: vendors.twilio.sent() == ["You said: Hello"])
    wait_for("its end", lambda: turns_ended(second) == 1)
    assert many.write(server, "Hello", MessageSid="SM1").json() == {"success": True}, "as for the first copy"
    assert vendors.twilio.sent() == ["You said: Hello"]


class Load:
    """A few customers who write again and again, each with numbered messages, as Twilio would deliver them.

    What a server does not take, because it is away or says 5xx, goes to another one, with the same MessageSid. Nobody
    is more than three answers ahead: there is always something in flight, and never more than is soon done.
    """

    def __init__(self, install: Install, servers: list[Server], vendors: Vendors) -> None:
        self._install, self._servers, self._vendors = install, servers, vendors
        self._over = threading.Event()
        self.taken: dict[str, list[str]] = {customer(number): [] for number in range(4)}
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._write_on, args=(who,)) for who in self.taken]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write_on(self, who: str) -> None:
        for number in itertools.count():
            while number - len(self._vendors.twilio.sent(to=who)) > 3 and not self._over.wait(0.05):
                pass
            if self._over.is_set():
                return
            body = f"{who[-2:]}-{number}"
            taken = any(self._deliver(who, body) for _ in range(10))
            (self.taken[who] if taken else self.refused).append(body)

    def _deliver(self, who: str, body: str) -> bool:
        for server in list(self._servers):
            try:
                answer = self._install.write(server, body, From=who, MessageSid=f"SM-{body}")
            except requests.ConnectionError:
                continue
            if answer.status_code == 200:
                return True
        time.sleep(0.1)
        return False


@pytest.mark.timeout(300)  # eight processes start, one after the other
def test_a_rolling_restart_under_load_loses_nothing_and_doubles_nothing(many: Install, vendors: Vendors) -> None:
    many.environment["CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS"] = "0"
    vendors.openai.thinking = 0.3
    servers = [many.serve(), many.serve("--no-worker")]
    workers = [many.worker(), many.worker()]
    with Load(many, servers, vendors) as load:
        wait_for("some messages", lambda: all(len(taken) > 2 for taken in load.taken.values()))
        for place, flags in ((0, ()), (1, ("--no-worker",))):
            workers.append(many.worker())
            assert workers.pop(0).stop() == 0
            servers.append(many.serve(*flags))
            assert servers.pop(0).stop() == 0, place
    assert load.refused == []
    expected = {who: [f"You said: {body}" for body in bodies] for who, bodies in load.taken.items()}
    total = sum(len(bodies) for bodies in expected.values())
    wait_for("all replies", lambda: len(vendors.twilio.sent()) >= total)
    for who, replies in expected.items():
        assert vendors.twilio.sent(to=who) == replies


@pytest.fixture
def database() -> Iterator[BreakablePostgres]:
    with BreakablePostgres() as database:
        yield database


@pytest.mark.parametrize("alone", [True, False], ids=["serve", "serve and worker"])
def test_a_database_that_goes_away_stops_the_work_until_it_is_back(
    alone: bool, database: BreakablePostgres, tmp_path: Path, vendors: Vendors, redis_url: str
) -> None:
    environment = {**vendors.environment, **QUICK, "DATABASE_URL": database.url, "REDIS_URL": redis_url}
    install = Install(tmp_path, environment)
    try:
        install.ok("init")
        install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat")
        server = install.serve() if alone else install.serve("--no-worker")
        worker = server if alone else install.worker()
        assert install.write(server, "One").status_code == 200
        wait_for("the first reply", lambda: turns_ended(worker) == 1)

        database.crash()
        wait_for("the worker to pause", lambda: '"worker_paused"' in worker.log)
        assert ready(server) == 503
        assert install.write(server, "Two", MessageSid="SM2").status_code == 503

        database.start()
        wait_for("the worker to go on", lambda: '"worker_resumed"' in worker.log)
        wait_for("the server to be ready", lambda: ready(server) == 200)
        assert install.write(server, "Two", MessageSid="SM2").status_code == 200
        wait_for("the second reply", lambda: turns_ended(worker) == 2)
        assert vendors.twilio.sent() == ["You said: One", "You said: Two"]
        assert worker.log.count('"worker_paused"') == worker.log.count('"worker_resumed"')
        assert worker.stop() == 0
    finally:
        install.close()


def ready(server: Server) -> int:
    return requests.get(f"{server.url}/readyz", timeout=PATIENCE).status_code


def test_processes_that_start_together_on_an_empty_database_migrate_it_once(
    tmp_path: Path, vendors: Vendors, postgres_url: str
) -> None:
    install = Install(tmp_path, {**vendors.environment, "DATABASE_URL": postgres_url})
    for command in (["serve", "--port", "0"], ["worker"]):
        refused = install.run(*command)
        assert refused.code == 6
        assert "chatbotctl db upgrade" in refused.err
    together = [
        subprocess.Popen(
            [COMMAND, "db", "upgrade"],
            env=install.env(),
            cwd=install.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(8)
    ]
    ended = [(process.communicate(timeout=PATIENCE * 2)[0], process.returncode) for process in together]
    assert [code for _, code in ended] == [0] * 8, ended
    assert install.ok("db", "current", "--json").json["fits"]


@pytest.mark.parametrize(
    ("found", "say"), [("9999", "Upgrade chatbotctl on this machine."), ("0001", "chatbotctl db upgrade")]
)
def test_a_schema_of_another_version_is_refused_with_what_to_do(
    shared_install: Install, postgres_url: str, found: str, say: str
) -> None:
    with administrator(postgres_url) as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = %s", (found,))
    for command in (["serve", "--port", "0"], ["serve", "--no-worker", "--port", "0"], ["worker"]):
        refused = shared_install.run(*command)
        assert refused.code == 6, command
        assert say in refused.err


def test_a_message_left_by_a_server_without_workers_waits_for_the_first_worker(many: Install, vendors: Vendors) -> None:
    server = many.serve("--no-worker", CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS="0")
    assert many.write(server, "Hello", From=ANA).json() == {"success": True, "queued": True}
    assert server.stop() == 0
    assert vendors.twilio.sent() == []
    many.worker()
    wait_for("the reply", lambda: vendors.twilio.sent() == ["You said: Hello"])
