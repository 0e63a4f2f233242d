"""The inbox: taking a customer's message in, once, in order. Its commit comes before any acknowledgement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Row, Text, bindparam, case, exc, func, or_, select, update

from chatbotctl.core.addresses import candidates, user_id
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.records.message import InboundMessage, StoredMessage
from chatbotctl.core.storage import events
from chatbotctl.core.storage.engine import insert_or_skip, now
from chatbotctl.core.storage.schema import business_clients, clients, inbound_messages, turns


@dataclass(frozen=True, slots=True)
class Taken:
    """Where a message stands in the inbox."""

    conversation_id: int
    seq: int
    #: The row's id.
    inbound_id: int
    #: Whether an operator holds the conversation, so that no turn will answer.
    held: bool
    #: Seconds until the burst window closes and the conversation is due.
    delay: float


class DuplicateMessage(Exception):
    """The MessageSid is in the inbox already: roll back and look the first one up."""


def _due_at() -> ColumnElement[float]:
    """When a conversation that has just got a message is due, as an expression over its row."""
    bc, i, t = business_clients.c, inbound_messages.c, turns.c
    oldest_unanswered = (
        select(func.min(i.received_at)).where(i.conversation_id == bc.id, i.seq > bc.done_seq).scalar_subquery()
    )
    latest = func.coalesce(oldest_unanswered, now()) + bindparam("max_wait", type_=Double)
    quiet = now() + bindparam("quiet", type_=Double)
    window = case((quiet < latest, quiet), else_=latest)
    # A turn that was put off keeps its backoff: a customer who writes on must not use its attempts up sooner.
    put_off = select(t.next_at).where(t.conversation_id == bc.id, t.first_seq == bc.done_seq + 1).scalar_subquery()
    return case((put_off > window, put_off), else_=window)


_bc = business_clients.c
_COUNTED = (
    update(business_clients)
    .where(_bc.business_id == bindparam("business"), _bc.client_id == bindparam("client"))
    .values(
        last_seq=_bc.last_seq + 1,
        last_inbound_at=now(),
        last_message_at=now(),
        profile_name=func.coalesce(bindparam("name", type_=Text), _bc.profile_name),
        ready_at=_due_at(),
    )
    .returning(_bc.id, _bc.last_seq, _bc.held_by, (_bc.ready_at - now()).label("delay"))
)
_c = clients.c
_KNOWN_CLIENT = (
    select(_c.id, _c.external_user_id)
    .where(or_(_c.address.in_(bindparam("addresses", expanding=True)), _c.external_user_id == bindparam("external")))
    .order_by(
        case((_c.external_user_id == bindparam("external"), 0), (_c.address == bindparam("address"), 1), else_=2), _c.id
    )
    .limit(1)
)


def take(
    tx: Connection, business: Business, message: InboundMessage, *, quiet_seconds: float, max_wait_seconds: float
) -> Taken:
    """Store a message as the newest of its conversation, making customer and conversation where they are new.

    Arguments:
        quiet_seconds: the conversation becomes due this long after its newest message...
        max_wait_seconds: ...but at most this long after its oldest unanswered one.

    Raises DuplicateMessage when the sid is there already; the caller's transaction must roll back.
    """
    client_id = _client(tx, message)
    pair = {"business_id": business.id, "client_id": client_id}
    tx.execute(insert_or_skip(tx, business_clients).on_conflict_do_nothing(index_elements=list(pair)), pair)
    # This UPDATE is also the lock that puts messages of one conversation in order.
    row = tx.execute(
        _COUNTED,
        {
            "business": business.id,
            "client": client_id,
            "name": message.profile_name,
            "quiet": quiet_seconds,
            "max_wait": max_wait_seconds,
        },
    ).one()
    stored = tx.execute(
        insert_or_skip(tx, inbound_messages)
        .on_conflict_do_nothing(index_elements=["sid"])
        .returning(inbound_messages.c.id),
        {
            "sid": message.sid,
            "conversation_id": row.id,
            "seq": row.last_seq,
            "sender": message.sender,
            "body": message.body,
            "kind": message.kind,
            "media": [asdict(media) for media in message.media],
            "parameters": dict(message.parameters),
            "simulated": message.simulated,
            "mirrored": message.mirrored,
        },
    ).one_or_none()
    if stored is None:
        raise DuplicateMessage
    events.record(tx, row.id, "received", message_sid=message.sid, detail={"kind": message.kind})
    return Taken(row.id, row.last_seq, stored.id, row.held_by == HeldBy.OPERATOR, max(0.0, row.delay))


def find(tx: Connection, sid: str, business: Business) -> Taken | None:
    """Where the business's message with this sid stands; None when it has no such message."""
    query = (
        select(
            inbound_messages.c.id,
            inbound_messages.c.conversation_id,
            inbound_messages.c.seq,
            business_clients.c.held_by,
        )
        .join(business_clients, business_clients.c.id == inbound_messages.c.conversation_id)
        .where(inbound_messages.c.sid == sid, business_clients.c.business_id == business.id)
    )
    row = tx.execute(query).one_or_none()
    if row is None:
        return None
    return Taken(row.conversation_id, row.seq, row.id, row.held_by == HeldBy.OPERATOR, 0.0)


def get(tx: Connection, inbound_id: int) -> StoredMessage:
    """A stored message by its row's id."""
    return stored_message(tx.execute(select(inbound_messages).where(inbound_messages.c.id == inbound_id)).one())


def stored_message(row: Row[Any]) -> StoredMessage:
    """The record of a whole row of inbound_messages."""
    return StoredMessage(
        id=row.id,
        sid=row.sid,
        conversation_id=row.conversation_id,
        seq=row.seq,
        sender=row.sender,
        body=row.body,
        kind=row.kind,
        simulated=row.simulated,
        mirrored=row.mirrored,
        translation=row.translation,
        language=row.language,
    )


def set_translation(tx: Connection, inbound_id: int, translation: str | None, language: str | None) -> None:
    """Keep what a message was translated to (None: it needed none), so that it is translated once."""
    tx.execute(
        update(inbound_messages)
        .where(inbound_messages.c.id == inbound_id)
        .values(translation=translation, language=language)
    )


def _client(tx: Connection, message: InboundMessage) -> int:
    """The customer's row: known by ExternalUserId first, then by any address form that reaches the same person."""
    external = message.external_user_id or user_id(message.sender)
    known = _known_client(tx, message.sender, external)
    if known is None:
        # ON CONFLICT without a target: either unique column may be the one that somebody else just took.
        tx.execute(
            insert_or_skip(tx, clients)
            .values(address=message.sender, external_user_id=external)
            .on_conflict_do_nothing()
        )
        known = _known_client(tx, message.sender, external)
        assert known is not None, "a client that could not be inserted must be there"
    client_id, known_external = known
    if external and known_external is None:
        try:
            with tx.begin_nested():
                tx.execute(update(clients).where(clients.c.id == client_id).values(external_user_id=external))
        except exc.IntegrityError:
            # Nothing had this id a moment ago, or it would have been found by it: somebody has just taken it.
            taken = _known_client(tx, message.sender, external)
            assert taken is not None, "whoever has the id must be there"
            return taken[0]
    return client_id


def _known_client(tx: Connection, address: str, external: str | None) -> tuple[int, str | None] | None:
    # An external id that is None equals nothing, not even a customer without one.
    values = {"addresses": candidates(address), "address": address, "external": external}
    row = tx.execute(_KNOWN_CLIENT, values).one_or_none()
    return None if row is None else (row.id, row.external_user_id)
