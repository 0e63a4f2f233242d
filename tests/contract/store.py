"""What the tests of the stores share: short ways to take messages in and to look at rows as they stand."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, Table, func, select, update

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.message import InboundMessage
from chatbotctl.core.records.turn import Lease, Turn, TurnState
from chatbotctl.core.storage import inbox, turns
from chatbotctl.core.storage.engine import Database, now
from chatbotctl.core.storage.inbox import Taken
from chatbotctl.core.storage.schema import business_clients
from tests import installs

LEASE = 30.0


def take(
    database: Database,
    business: Business,
    message: InboundMessage | None = None,
    *,
    quiet: float = 0.0,
    max_wait: float = 5.0,
    **fields: Any,
) -> Taken:
    """Take one message in, in a transaction of its own."""
    with database.write() as tx:
        return inbox.take(
            tx, business, message or installs.message(**fields), quiet_seconds=quiet, max_wait_seconds=max_wait
        )


def claim(database: Database, conversation_id: int, *, owner: str = "one", seconds: float = LEASE) -> Lease | None:
    """Claim a conversation."""
    with database.write() as tx:
        return turns.claim(tx, conversation_id, owner=owner, lease_seconds=seconds)


def open_turn(database: Database, conversation_id: int, *, owner: str = "one", one_message: bool = False) -> Turn:
    """Claim a conversation that is due, and open or resume its turn."""
    with database.write() as tx:
        lease = turns.claim(tx, conversation_id, owner=owner, lease_seconds=LEASE)
        assert lease is not None, "nothing to claim"
        return turns.open_turn(tx, lease, one_message=one_message)


def finish(database: Database, turn: Turn, state: TurnState = TurnState.DONE) -> float | None:
    """End a turn as its worker does."""
    with database.write() as tx:
        turns.check_fence(tx, turn.lease)
        return turns.finish(tx, turn, state)


def expire_lease(database: Database, conversation_id: int) -> None:
    """The lease of whoever has the conversation runs out, as it does while a worker is frozen."""
    _set(database, conversation_id, lease_until=now() - 1)


def make_due(database: Database, conversation_id: int) -> None:
    """The conversation's waiting time is over."""
    _set(database, conversation_id, ready_at=now() - 1)


def rows(database: Database, table: Table[Any]) -> list[Row[Any]]:
    """All rows of a table in order."""
    with database.read() as tx:
        return list(tx.execute(select(table).order_by(table.c.id)))


def count(database: Database, table: Table[Any]) -> int:
    """How many rows a table has."""
    with database.read() as tx:
        return tx.scalar(select(func.count()).select_from(table)) or 0


def _set(database: Database, conversation_id: int, **values: Any) -> None:
    with database.write() as tx:
        tx.execute(update(business_clients).where(business_clients.c.id == conversation_id).values(values))
