"""The bare server that `chatbotctl serve` is compared with: Flask and waitress, Twilio's signature, one durable insert.

`python webhook.py PORT DATABASE_URL PUBLIC_URL TOKEN`, where the database's URL is sqlite:///FILE or PostgreSQL's. It
knows no business, asks nobody and sends nothing: what is left of a webhook when everything that the product does is
left out, but for who may call and that what was acknowledged is stored.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable

import flask
import waitress
from twilio.request_validator import RequestValidator

#: As many as the product has.
THREADS = 16

_TABLE = "CREATE TABLE IF NOT EXISTS messages (sid TEXT PRIMARY KEY, sender TEXT, receiver TEXT, body TEXT)"
_INSERT = "INSERT INTO messages (sid, sender, receiver, body) VALUES ({0}, {0}, {0}, {0})"
_FIELDS = ("MessageSid", "From", "To", "Body")


def main(port: int, url: str, public_url: str, token: str) -> None:
    """Serve until the process is ended."""
    store = _sqlite(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else _postgres(url)
    validator = RequestValidator(token)
    app = flask.Flask(__name__)

    @app.post("/whatsapp")
    def whatsapp() -> tuple[dict[str, bool], int]:
        signature = flask.request.headers.get("X-Twilio-Signature", "")
        if not validator.validate(f"{public_url}/whatsapp", flask.request.form, signature):
            return {"success": False}, 403
        store([flask.request.form[name] for name in _FIELDS])
        return {"success": True}, 200

    waitress.serve(app, host="127.0.0.1", port=port, threads=THREADS)


def _sqlite(path: str) -> Callable[[list[str]], None]:
    # One writer at a time is all that SQLite has: a lock in front of it is quicker than its busy handler, which polls.
    lock = threading.Lock()
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(_TABLE)

    def store(values: list[str]) -> None:
        with lock:
            connection.execute(_INSERT.format("?"), values)

    return store


def _postgres(url: str) -> Callable[[list[str]], None]:
    import psycopg2

    local = threading.local()

    def connected() -> psycopg2.extensions.connection:
        connection = psycopg2.connect(url)
        connection.autocommit = True
        return connection

    with connected().cursor() as cursor:
        cursor.execute(_TABLE)

    def store(values: list[str]) -> None:
        if not hasattr(local, "connection"):
            local.connection = connected()
        with local.connection.cursor() as cursor:
            cursor.execute(_INSERT.format("%s"), values)

    return store


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
