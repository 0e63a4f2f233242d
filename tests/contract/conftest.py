"""The stores that a contract must hold on: every test that asks for `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.storage.engine import Database
from tests import installs


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated PostgreSQL database to copy."""
    with installs.migrated_template(postgres_server) as name:
        yield name


@pytest.fixture
def postgres_store(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database's URL."""
    with installs.postgres_copy(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database's URL."""
    if request.param == "sqlite":
        return installs.sqlite_database(tmp_path)
    url: str = request.getfixturevalue("postgres_store")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database."""
    opened = Database(database_url)
    yield opened
    opened.close()
