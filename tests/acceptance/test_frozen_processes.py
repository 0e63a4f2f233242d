"""A process that was frozen for longer than its lease finds, when it goes on, that another one has done its work.

A machine was suspended, or a virtual one paused: what it was about to do is refused, and the customer reads one reply.
"""

from __future__ import annotations

import signal
import time
from functools import partial

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.acceptance.install import SHOP, Install, Server, Vendors, wait_for

BRISK = {
    "CHATBOTCTL_WORKER__LEASE_SECONDS": "3",
    "CHATBOTCTL_WORKER__SWEEP_SECONDS": "0.2",
    "CHATBOTCTL_WORKER__QUIET_SECONDS": "0",
    "CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS": "0",
    "CHATBOTCTL_TWILIO__LOOKUP_WAIT_SECONDS": "0.2",
    "CHATBOTCTL_TESTING": "1",
}
AT_ONCE = {"timeout": 0.0}
#: Seconds that a process stays at its point to be frozen there. They are over when it goes on.
LINGER = 8


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        # About to ask, and with an answer in hand that is not stored: only the second one's answer was for nothing.
        ("thread_found", "asked", 2),
        # With a reply that is stored, and with one that was looked for and is marked again: nobody asks again.
        ("answered", "sending", 1),
        # With a part that is marked, and with one that Twilio has: it is looked for, and not sent again.
        ("sending", "sent_not_recorded", 1),
    ],
)
def test_two_processes_frozen_past_their_leases_send_nothing_when_they_go_on(
    any_install: Install, vendors: Vendors, first: str, second: str, asked: int
) -> None:
    any_install.ok("business", "add", "shop", "--number", SHOP, "--backend", "chat")
    late = [lingering(any_install, first)]
    any_install.write(late[0], "Hello")
    freeze(any_install, late[0], first)
    late.append(lingering(any_install, second))
    freeze(any_install, late[1], second)
    heir = any_install.serve(**BRISK)
    wait_for("the end of the turn", partial(found, any_install, "turns WHERE state = 'done'"))

    for server in late:
        server.process.send_signal(signal.SIGCONT)
    for server in late:
        wait_for("its finding its lease lost", partial(has_noticed, server))

    assert vendors.twilio.sent() == ["You said: Hello"]
    assert len(vendors.openai.asked) == asked
    for number, server in enumerate(late, start=1):
        any_install.write(server, f"Are you back, {number}?")
        wait_for("an answer", lambda: len(vendors.twilio.sent()) > number)  # noqa: B023 - waited for in the loop
    assert vendors.twilio.sent()[1:] == ["You said: Are you back, 1?", "You said: Are you back, 2?"]
    assert [server.stop() for server in (*late, heir)] == [0, 0, 0]


def lingering(install: Install, point: str) -> Server:
    """A process that lingers at a point of its first turn's path."""
    return install.serve(**BRISK, CHATBOTCTL_FAILPOINT=f"{point}:sleep={LINGER}")


def freeze(install: Install, server: Server, point: str) -> None:
    """Freeze a process as soon as it says that it is at its point."""
    wait_for(f"its coming to {point}", lambda: f'"point": "{point}"' in server.log)
    server.process.send_signal(signal.SIGSTOP)
    while database_url(install).startswith("sqlite") and not can_be_written(install):
        # In the middle of writing down something else: one that is frozen there takes everybody's SQLite along.
        server.process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGSTOP)


def database_url(install: Install) -> str:
    url = install.environment.get("DATABASE_URL", f"sqlite:///{install.home / 'chatbotctl.db'}")
    return url.replace("postgresql://", "postgresql+psycopg2://")


def found(install: Install, rows: str) -> bool:
    """Whether there are such rows in the database."""
    engine = create_engine(database_url(install), poolclass=NullPool)
    with engine.connect() as connection:
        return connection.execute(text(f"SELECT 1 FROM {rows}")).first() is not None


def has_noticed(server: Server) -> bool:
    """Whether it has found that another has its conversation, or that PostgreSQL has ended its transaction."""
    return "lease_lost" in server.log or "storage_unavailable" in server.log


def can_be_written(install: Install) -> bool:
    """Whether anybody can write: of an SQLite file, one process has all of it while it writes."""
    engine = create_engine(database_url(install), poolclass=NullPool, connect_args=AT_ONCE)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError:
        return False
    return True
