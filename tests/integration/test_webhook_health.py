"""/healthz and /readyz, as a load balancer sees them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import requests
from sqlalchemy import event, text, update

from chatbotctl.core import config
from chatbotctl.core.records.conversation import Due
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import business_clients
from chatbotctl.core.wiring import Core
from chatbotctl.server import serving
from chatbotctl.server.app import create_app
from tests import services
from tests.installs import add_business, eventually, install, sqlite_database, take_in, work
from tests.integration.webhook_site import error_of, served


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return sqlite_database(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def test_a_server_that_can_store_messages_is_ready(database_url: str) -> None:
    with install(database_url=database_url) as core:
        client = create_app(core).test_client()
        ready = client.get("/readyz")
        assert (ready.status_code, ready.content_type) == (200, "application/json")
        assert ready.json == {
            "status": "ready",
            "database": "ok",
            "redis": "not configured",
            "queue": {"due": 0, "oldest_seconds": 0, "dead": 0},
            "worker": "none",
        }
        assert client.get("/healthz").json == {"status": "ok"}
        assert client.head("/healthz").data == b""


def test_redis_is_reported(redis_url: str, database_url: str) -> None:
    with install(database_url=database_url, redis_url=redis_url) as core:
        assert create_app(core).test_client().get("/readyz").json["redis"] == "ok"


def test_a_redis_outage_is_reported_and_the_server_stays_ready(database_url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"
        with install(database_url=database_url, redis_url=url) as core:
            ready = create_app(core).test_client().get("/readyz")
    assert ready.status_code == 200
    assert (ready.json["status"], ready.json["redis"]) == ("ready", "unreachable")


def test_what_waits_is_told_with_its_age(database_url: str) -> None:
    with install(database_url=database_url) as core:
        add_business(core)
        taken = take_in(core)
        with core.database.write() as tx:
            tx.execute(update(business_clients).values(ready_at=now() - 90))
        queue = create_app(core).test_client().get("/readyz").json["queue"]
        assert (queue["due"], queue["dead"]) == (1, 0)
        assert 90 <= queue["oldest_seconds"] < 120

        work(core, taken.conversation_id)  # without an assistant to ask: a dead letter
        assert create_app(core).test_client().get("/readyz").json["queue"] == {"due": 0, "oldest_seconds": 0, "dead": 1}


def test_the_backlog_is_counted_once_for_all_who_ask(database_url: str) -> None:
    with install(database_url=database_url) as core:
        counted: list[str] = []
        event.listen(core.database.engine, "before_cursor_execute", lambda *given: counted.append(given[2]))
        client = create_app(core).test_client()
        for _ in range(10):
            assert client.get("/readyz").status_code == 200
    assert len([statement for statement in counted if "count(*) AS" in statement and "ready_at" in statement]) == 1


def test_a_process_whose_worker_is_paused_is_unready_although_the_database_is_back(tmp_path: Path) -> None:
    flags = {("worker", "sweep_seconds"): 60}
    with install(flags=flags, database_url=sqlite_database(tmp_path)) as core:
        business = add_business(core)
        taken = take_in(core)
        with served(core) as server:
            assert requests.get(f"{server.url}/readyz", timeout=30).json()["worker"] == "running"
            with core.database.write() as tx:
                tx.execute(text("ALTER TABLE events RENAME TO away"))
            core.services.wakeup.wake(due=Due(taken.conversation_id, business.id), delay=0)
            eventually(lambda: requests.get(f"{server.url}/readyz", timeout=30).status_code == 503)
            with core.database.write() as tx:
                tx.execute(text("ALTER TABLE away RENAME TO events"))
            refused = requests.get(f"{server.url}/readyz", timeout=30)
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert "worker" in refused.json()["error"]


def test_a_database_that_is_frozen_is_not_waited_for(postgres_url: str) -> None:
    with install(database_url=postgres_url) as core:
        client = create_app(core).test_client()
        with core.database.engine.connect() as holder, holder.begin():
            # Whoever reads the schema's version waits for this lock, as for a database that does not answer at all.
            holder.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
            assert error_of(client.get("/readyz")) == (503, "storage_unavailable")
            assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_database_that_is_gone_makes_it_unready_but_not_dead(postgres_url: str, postgres_server: str) -> None:
    with install(database_url=postgres_url) as core:
        client = create_app(core).test_client()
        assert client.get("/readyz").status_code == 200
        core.database.close()
        with services.administrator(postgres_server) as cursor:
            cursor.execute(f'ALTER DATABASE "{core.database.url.database}" ALLOW_CONNECTIONS false')
        assert error_of(client.get("/readyz")) == (503, "storage_unavailable")
        assert client.get("/healthz").status_code == 200
        with services.administrator(postgres_server) as cursor:
            cursor.execute(f'ALTER DATABASE "{core.database.url.database}" ALLOW_CONNECTIONS true')
        assert client.get("/readyz").status_code == 200


def test_a_database_that_takes_no_writes_makes_it_unready(postgres_url: str, postgres_server: str) -> None:
    """As after a failover, when the name still leads to what is now the replica."""
    with install(database_url=postgres_url) as core:
        client = create_app(core).test_client()
        for changed, status in (("SET default_transaction_read_only = on", 503), ("RESET ALL", 200)):
            with services.administrator(postgres_server) as cursor:
                cursor.execute(f'ALTER DATABASE "{core.database.url.database}" {changed}')
            core.database.close()
            answer = client.get("/readyz")
            assert answer.status_code == status
        assert answer.get_json()["database"] == "ok"


def test_a_database_without_our_tables_makes_it_unready(tmp_path: Path) -> None:
    core = Core(config.load(flags={("database", "url"): f"sqlite:///{tmp_path / 'empty.db'}"}))
    try:
        assert error_of(create_app(core).test_client().get("/readyz")) == (503, "schema_mismatch")
    finally:
        core.close()


def test_a_server_that_is_about_to_stop_is_unready(tmp_path: Path) -> None:
    with install(database_url=sqlite_database(tmp_path)) as core:
        app = create_app(core)
        serving.of_app(app).vitals.draining = True
        assert error_of(app.test_client().get("/readyz")) == (503, "draining")
        assert app.test_client().get("/healthz").status_code == 200
