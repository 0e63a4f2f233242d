"""What the benchmarks of the message path run on: the stores, the product's processes, the bare server.

Everything is started anew for each benchmark and listens on the loopback interface only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, measuring
from benchmarks.measuring import BARE, Process, Server
from benchmarks.outside import Outside
from chatbotctl.core.storage import businesses, migrate
from chatbotctl.core.storage.engine import Database
from tests import services
from tests.fakes.twilio_server import ACCOUNT, TOKEN

SQLITE, POSTGRES = "SQLite", "PostgreSQL"


@dataclass(frozen=True)
class Store:
    """Two databases of one kind, on the same disk: the product's and the bare server's."""

    name: str
    url: str
    bare_url: str
    #: Where the product's processes run; without a config file.
    folder: Path

    @contextlib.contextmanager
    def serve(self, outside: Outside | None = None, *, with_worker: bool = True, **settings: str) -> Iterator[Server]:
        """`chatbotctl serve`, with these environment variables over the benchmarks' own."""
        port = measuring.free_port()
        command = [sys.executable, "-m", "chatbotctl", "serve", "--port", str(port)]
        if not with_worker:
            command.append("--no-worker")
        environment = measuring.environment(**(_environment(self, outside) | settings))
        with measuring.serving(command, port=port, environment=environment, folder=self.folder) as server:
            yield server

    @contextlib.contextmanager
    def worker(self, outside: Outside, **settings: str) -> Iterator[Process]:
        """`chatbotctl worker`."""
        command = [sys.executable, "-m", "chatbotctl", "worker"]
        environment = measuring.environment(**(_environment(self, outside) | settings))
        is_up: Callable[[str], bool] = lambda said: '"event": "working"' in said  # noqa: E731
        with measuring.running(command, environment=environment, folder=self.folder, is_up=is_up) as process:
            yield process

    @contextlib.contextmanager
    def bare(self) -> Iterator[Server]:
        """The bare server."""
        port = measuring.free_port()
        command = [sys.executable, str(BARE / "webhook.py"), str(port), self.bare_url, load.PUBLIC_URL, TOKEN]
        environment = measuring.environment()
        with measuring.serving(command, port=port, environment=environment, folder=self.folder) as server:
            yield server


@contextlib.contextmanager
def store(name: str, *, backend: str = "chat") -> Iterator[Store]:
    """Databases of the kind `name`, the product's with its tables and load.BUSINESSES businesses.

    Commits are as durable as always: SQLite runs as the product sets it up, PostgreSQL with fsync on.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatbotctl-bench-")))
        if name == SQLITE:
            made = Store(name, f"sqlite:///{folder / 'ours.db'}", f"sqlite:///{folder / 'bare.db'}", folder)
        else:
            server = stack.enter_context(_durable_postgres())
            urls = [stack.enter_context(services.fresh_database(server)) for _ in range(2)]
            made = Store(name, urls[0], urls[1], folder)
        _set_up(made.url, backend)
        yield made


@contextlib.contextmanager
def _durable_postgres() -> Iterator[str]:
    with services.postgres_server() as server:
        if "TEST_DATABASE_URL" not in os.environ:
            # Tests need not survive a power cut; what is measured here is durable commits.
            with services.administrator(server) as cursor:
                cursor.execute("ALTER SYSTEM SET fsync = on")
                cursor.execute("SELECT pg_reload_conf()")
        yield server


def _set_up(url: str, backend: str) -> None:
    with contextlib.closing(Database(url)) as database:
        migrate.upgrade(database)
        with database.write() as tx:
            for number in range(load.BUSINESSES):
                values = {"backend": backend, "model": "gpt-test", "instructions": "You answer for a bakery."}
                name = f"bakery-{number}"
                businesses.add(tx, name=name, whatsapp_address=load.address(number), values=values)


def _environment(store: Store, outside: Outside | None) -> Mapping[str, str]:
    given = {
        "CHATBOTCTL_HOME": str(store.folder),
        # The window in which a customer's messages are gathered would be all that is seen.
        "CHATBOTCTL_WORKER__QUIET_SECONDS": "0",
        "DATABASE_URL": store.url,
        "PUBLIC_URL": load.PUBLIC_URL,
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "OPENAI_API_KEY": "sk-test",
    }
    if outside is not None:
        given |= {"TWILIO_API_BASE_URL": outside.url, "OPENAI_BASE_URL": f"{outside.url}/v1"}
    return given
