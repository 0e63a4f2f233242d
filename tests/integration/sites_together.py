"""Several servers of one install, each with a worker of its own, on one database (and one Redis)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatbotctl.core.config import Key
from chatbotctl.core.wiring import Core
from tests.installs import Vendors, install
from tests.integration.conftest import stores_of
from tests.integration.webhook_site import PUBLIC, served

#: Opens so many servers: `together(3, flags)`.
Together = Callable[[int, dict[Key, object]], AbstractContextManager["list[Site]"]]


@dataclass(frozen=True)
class Site:
    """One server: what it stands on, and where it is reached."""

    core: Core
    url: str


@contextmanager
def sites(vendors: Vendors, stores: dict[str, str], count: int, flags: dict[Key, object]) -> Iterator[list[Site]]:
    """`count` servers at work; drained one after the other at the end."""
    with ExitStack() as opened:
        cores = [opened.enter_context(install(vendors, flags={**PUBLIC, **flags}, **stores)) for _ in range(count)]
        yield [Site(core, opened.enter_context(served(core)).url) for core in cores]


@pytest.fixture(params=["sqlite", "postgresql+redis"])
def together(request: pytest.FixtureRequest, vendors: Vendors, tmp_path: Path) -> Together:
    """Servers on SQLite, and on PostgreSQL with Redis."""
    stores = stores_of(request, tmp_path, is_embedded=request.param == "sqlite")
    return lambda count, flags: sites(vendors, stores, count, flags)
