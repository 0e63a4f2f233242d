"""What the tables of vendor faults share: a message comes by the webhook, and everything that came of it is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, select, update
from werkzeug.test import TestResponse

from chatbotctl.core.config import Key
from chatbotctl.core.records.turn import TurnState
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from tests.installs import Vendors, eventually, install, sqlite_database, work
from tests.integration.webhook_site import PUBLIC, pairs, post

#: What the webhook said, in a word: these two, or an error's code.
SUCCESS, QUEUED = "success", "queued"
#: Turns that a message gets at most: `worker.attempts` of the tables' installs.
TURNS: Final = 3
#: The ends of a turn.
FINAL = (TurnState.DONE, TurnState.DEAD, TurnState.WITHDRAWN, TurnState.DROPPED)
#: Seconds that a webhook waits for a turn that ends at once, and for one that is put off.
PATIENT, HASTY = 10.0, 0.3


@dataclass(frozen=True)
class Became:
    """What came of one message."""

    #: What the webhook said (SUCCESS, QUEUED or an error's code), and what a copy was told when all was over.
    answered: tuple[str, str]
    #: The turn's state, and the code of why it failed.
    turn: tuple[str, str | None]
    #: The state of each part of the reply.
    parts: tuple[str, ...]
    #: How often the turn was put off.
    put_off: int


def fault_site(vendors: Vendors, folder: Path, flags: dict[Key, object]) -> AbstractContextManager[Core]:
    """An install on SQLite whose every fault is final after TURNS turns."""
    given: dict[Key, object] = {
        ("worker", "attempts"): TURNS,
        ("server", "reply_wait_seconds"): PATIENT,
        ("slack", "channel_name_template"): "c-{customer}",
    }
    return install(vendors, flags={**PUBLIC, **given, **flags}, database_url=sqlite_database(folder))


def bring_to_its_end(core: Core, body: str = "Hello") -> Became:
    """A customer writes; the turn is run until it has ended, whatever waits it is put off for being over at once."""
    app, fields = create_app(core), pairs(body)
    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(post, app.test_client(), fields)
        eventually(lambda: rows(core, tables.inbound_messages) or called.done())
        work(core, 1)
        first = word_for(called.result(30))
    for _ in range(TURNS):
        if rows(core, tables.turns)[-1].state in FINAL:
            break
        make_due(core)
        work(core, 1)
    (turn,) = rows(core, tables.turns)
    assert turn.state in FINAL, "it never ends"
    return Became(
        answered=(first, word_for(post(app.test_client(), fields))),
        turn=(turn.state, turn.error_code),
        parts=tuple(row.state for row in rows(core, tables.outbound_messages)),
        put_off=turn.attempts,
    )


def word_for(response: TestResponse) -> str:
    """A webhook's answer in a word; its status must be the word's."""
    body = response.json
    assert isinstance(body, dict)
    if "error" in body:
        assert response.status_code == 500
        return str(body["code"])
    assert (response.status_code, body.pop("success")) == (200, True)
    assert body in ({}, {"queued": True})
    return QUEUED if body else SUCCESS


def rows(core: Core, table: Any) -> list[Any]:
    """All rows of a table, oldest first."""
    with core.database.read() as tx:
        return list(tx.execute(select(table).order_by(table.c.id)))


def make_due(core: Core) -> None:
    """Every wait is over: turns that were put off are due."""
    _set(core, ready_at=now() - 1)


def expire_leases(core: Core) -> None:
    """Whoever has a conversation is dead, or frozen for longer than its lease."""
    _set(core, lease_until=now() - 1)


def named(words: str) -> str:
    """A row's name as a part of a test's."""
    return words.replace(" ", "-")


def _set(core: Core, **values: ColumnElement[float]) -> None:
    with core.database.write() as tx:
        for name, value in values.items():
            column = tables.business_clients.c[name]
            tx.execute(update(tables.business_clients).where(column.is_not(None)).values({name: value}))
