"""The stores that a contract must hold on: every test that asks for `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.storage.engine import Database
from tests import installs


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database's URL."""
    if request.param == "sqlite":
        return installs.sqlite_database(tmp_path)
    url: str = request.getfixturevalue("postgres_store")
    installs.empty_postgres(url)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated, empty database."""
    opened = Database(database_url)
    yield opened
    opened.close()
