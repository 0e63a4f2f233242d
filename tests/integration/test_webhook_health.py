"""/healthz and /readyz, as a load balancer sees them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from chatbotctl.core import config
from chatbotctl.core.wiring import Core
from chatbotctl.server import serving
from chatbotctl.server.app import create_app
from tests import services
from tests.installs import install, sqlite_database
from tests.integration.webhook_site import error_of


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return sqlite_database(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def test_a_server_that_can_store_messages_is_ready(database_url: str) -> None:
    with install(database_url=database_url) as core:
        client = create_app(core).test_client()
        ready = client.get("/readyz")
        assert (ready.status_code, ready.content_type) == (200, "application/json")
        assert ready.json == {"status": "ready", "database": "ok", "redis": "not configured"}
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
    assert ready.json == {"status": "ready", "database": "ok", "redis": "unreachable"}


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


def test_a_database_without_our_tables_makes_it_unready(tmp_path: Path) -> None:
    core = Core(config.load(flags={("database", "url"): f"sqlite:///{tmp_path / 'empty.db'}"}))
    try:
        assert error_of(create_app(core).test_client().get("/readyz")) == (503, "schema_mismatch")
    finally:
        core.close()


def test_a_server_that_is_about_to_stop_is_unready(tmp_path: Path) -> None:
    with install(database_url=sqlite_database(tmp_path)) as core:
        app = create_app(core)
        serving.of_app(app).draining = True
        assert error_of(app.test_client().get("/readyz")) == (503, "draining")
        assert app.test_client().get("/healthz").status_code == 200
