"""The append-only timeline of what happened to messages. Kinds and ids, and small details; never a text."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select

from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import events

_INSERT = Prepared(insert(events))


def record(
    tx: Connection,
    conversation_id: int,
    kind: str,
    *,
    message_sid: str | None = None,
    turn_id: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Add one event, in the transaction of the thing that it tells of."""
    _INSERT.run(
        tx,
        conversation_id=conversation_id,
        kind=kind,
        message_sid=message_sid,
        turn_id=turn_id,
        detail=dict(detail or {}),
    )


def times(tx: Connection, conversation_id: int, kind: str) -> list[float]:
    """When events of one kind happened in a conversation, oldest first."""
    query = select(events.c.at).where(events.c.conversation_id == conversation_id, events.c.kind == kind)
    return list(tx.scalars(query.order_by(events.c.id)))
