"""What libpq says of a connection that never came about, or broke off, in words that tell an operator what to do."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy import exc
from sqlalchemy.engine import make_url

from chatbotctl.core.storage.database_faults import unavailable

URL = make_url("postgresql+psycopg2://bot:canary@db.example.com/chatbot")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("FATAL:  the database system is starting up", "starting or shutting down"),
        ("FATAL:  the database system is in recovery mode", "starting or shutting down"),
        ("FATAL:  the database system is not yet accepting connections", "starting or shutting down"),
        ("server closed the connection unexpectedly", "the connection was lost"),
        ("SSL connection has been closed unexpectedly", "the connection was lost"),
        ('FATAL:  password authentication failed for user "bot"', "the password was refused"),
        ('FATAL:  database "chatbot" does not exist', "there is no such database"),
    ],
)
def test_what_postgresql_says_is_told_as_its_cause(words: str, cause: str) -> None:
    raised = exc.OperationalError("SELECT 1", {}, psycopg2.OperationalError(words))

    error = unavailable(raised, URL)

    assert cause in error.message
    assert "canary" not in f"{error.message} {error.hint}"
