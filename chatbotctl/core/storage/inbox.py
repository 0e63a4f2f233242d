"""The inbox: taking a customer's message in, once, in order. Its commit comes before any acknowledgement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exc,
    func,
    or_,
    select,
    update,
)

from chatbotctl.core.addresses import candidates, user_id
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.records.message import InboundMessage, StoredMessage
from chatbotctl.core.storage import events, new_owner
from chatbotctl.core.storage.engine import earlier, insert_or_skip, later, now
from chatbotctl.core.storage.prepared import Prepared
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


_bc, _c, _i, _t = business_clients.c, clients.c, inbound_messages.c, turns.c


def _due_at() -> ColumnElement[float]:
    """When a conversation that has just got a message is due, as an expression over its row."""
    begun = (
        select(_t.upto_seq)
        .where(_t.conversation_id == _bc.id, _t.first_seq == _bc.done_seq + 1)
        .correlate(business_clients)
        .scalar_subquery()
    )
    # Behind the turn that is under way: what that one answers has had its window.
    oldest_unanswered = (
        select(func.min(_i.received_at))
        .where(_i.conversation_id == _bc.id, _i.seq > func.coalesce(begun, _bc.done_seq))
        .correlate(business_clients)
        .scalar_subquery()
    )
    latest = func.coalesce(oldest_unanswered, now()) + bindparam("max_wait", type_=Double)
    window = earlier(now() + bindparam("quiet", type_=Double), latest)
    # A turn that was put off keeps its backoff: a customer who writes on must not use its attempts up sooner. So does
    # one that an operator has gone on with, which comes before this message. By the row itself: PostgreSQL has waited
    # for whoever puts it off at this moment, and shows of other tables what was there before that.
    not_before = case((or_(_bc.redo > 0, begun.is_not(None)), _bc.ready_at))
    return later(func.coalesce(not_before, 0.0), window)


def _counted(which: ColumnElement[bool]) -> Prepared:
    """The message is counted in a conversation, whose row is locked by that."""
    return Prepared(
        update(business_clients)
        .where(which)
        .values(
            last_seq=_bc.last_seq + 1,
            last_inbound_at=now(),
            last_message_at=now(),
            profile_name=func.coalesce(bindparam("name", type_=Text), _bc.profile_name),
            ready_at=_due_at(),
        )
        .returning(_bc.id, _bc.last_seq, _bc.held_by, (_bc.ready_at - now()).label("delay"))
    )


_of_business = _bc.business_id == bindparam("business")
_has_id = _bc.external_user_id == bindparam("external")


def _by_address(*columns: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    """The conversation with this address, or else with the one other spelling that there may be."""
    return (
        select(*columns)
        .join(clients, _c.id == _bc.client_id)
        .where(_of_business, _c.address.in_([bindparam("address"), bindparam("variant")]))
        .order_by(case((_c.address == bindparam("address"), 0), else_=1), _bc.id)
        .limit(1)
    )


# What almost every message is: of a conversation that is known by the message's id, or of whom no id is told.
_COUNTED_BY_ID = _counted(and_(_of_business, _has_id))
_COUNTED_BY_ADDRESS = _counted(_bc.id == _by_address(_bc.id).correlate(None).scalar_subquery())
_COUNTED = _counted(_bc.id == bindparam("conversation"))
# Whatever is decided about a conversation is decided of its locked row: two messages may tell of a new owner at once.
_KNOWN_BY_ID = Prepared(
    select(_bc.id, _bc.external_user_id).where(_of_business, _has_id).limit(1).with_for_update(key_share=True)
)
_KNOWN_BY_ADDRESS = Prepared(
    _by_address(_bc.id, _bc.external_user_id).with_for_update(of=business_clients, key_share=True)
)
_STORED = Prepared(insert_or_skip(inbound_messages).on_conflict_do_nothing(index_elements=["sid"]).returning(_i.id))
_NEW_CLIENT = Prepared(insert_or_skip(clients).on_conflict_do_nothing(index_elements=["address"]))
_CLIENT = Prepared(select(_c.id).where(_c.address == bindparam("customer")).with_for_update(read=True, key_share=True))
# Without a target: either unique pair may be the one that somebody else has just taken.
_NEW_CONVERSATION = Prepared(insert_or_skip(business_clients).on_conflict_do_nothing())


def take(
    tx: Connection, business: Business, message: InboundMessage, *, quiet_seconds: float, max_wait_seconds: float
) -> Taken:
    """Store a message as the newest of its conversation, making customer and conversation where they are new.

    Arguments:
        quiet_seconds: the conversation becomes due this long after its newest message...
        max_wait_seconds: ...but at most this long after its oldest unanswered one.

    Raises DuplicateMessage when the sid is there already; the caller's transaction must roll back.
    """
    row = _count(tx, business, message, quiet=quiet_seconds, max_wait=max_wait_seconds)
    stored = _STORED.first(
        tx,
        sid=message.sid,
        conversation_id=row.id,
        seq=row.last_seq,
        sender=message.sender,
        body=message.body,
        kind=message.kind,
        media=[asdict(media) for media in message.media],
        parameters=dict(message.parameters),
        simulated=message.simulated,
        mirrored=message.mirrored,
    )
    if stored is None:
        raise DuplicateMessage
    events.record(tx, row.id, "received", message_sid=message.sid, detail={"kind": message.kind})
    return Taken(row.id, row.last_seq, stored.id, row.held_by == HeldBy.OPERATOR, max(0.0, row.delay))


def find(tx: Connection, sid: str, business: Business) -> Taken | None:
    """Where the business's message with this sid stands; None when it has no such message."""
    query = (
        select(_i.id, _i.conversation_id, _i.seq, _bc.held_by)
        .join(business_clients, _bc.id == _i.conversation_id)
        .where(_i.sid == sid, _bc.business_id == business.id)
    )
    row = tx.execute(query).one_or_none()
    if row is None:
        return None
    return Taken(row.conversation_id, row.seq, row.id, row.held_by == HeldBy.OPERATOR, 0.0)


def get(tx: Connection, inbound_id: int) -> StoredMessage:
    """A stored message by its row's id."""
    return stored_message(tx.execute(select(inbound_messages).where(_i.id == inbound_id)).one())


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
    tx.execute(update(inbound_messages).where(_i.id == inbound_id).values(translation=translation, language=language))


def _count(tx: Connection, business: Business, message: InboundMessage, **window: float) -> Any:
    """Count the message in its conversation; returns the row with what is known of that now."""
    external = message.external_user_id or user_id(message.sender)
    values = {"name": message.profile_name, **window}
    if external is not None:
        row = _COUNTED_BY_ID.first(tx, business=business.id, external=external, **values)
    else:
        row = _COUNTED_BY_ADDRESS.first(tx, business=business.id, **_spellings(message.sender), **values)
    if row is not None:
        return row
    return _COUNTED.one(tx, conversation=_conversation(tx, business, message.sender, external), **values)


def _conversation(tx: Connection, business: Business, address: str, external: str | None) -> int:
    """The customer's conversation, its row locked: messages of one conversation come in one after the other.

    Known by ExternalUserId first, then by any address form that reaches the same person; both of this business alone,
    for another one's Twilio account could say of anybody's number that it has any id.
    """
    known = _known(tx, business, address, external)
    if known is None:
        _add(tx, business, address, external)
        known = _known(tx, business, address, external)
        assert known is not None, "a conversation that could not be added must be there"
    conversation_id, known_external = known
    if external is None or known_external == external:
        return conversation_id
    try:
        with tx.begin_nested():
            if known_external is not None:
                new_owner.begin_anew(tx, conversation_id)
            tx.execute(update(business_clients).where(_bc.id == conversation_id).values(external_user_id=external))
    except exc.IntegrityError:
        # Nothing had this id a moment ago, or it would have been found by it: somebody has just taken it.
        taken = _known(tx, business, address, external)
        assert taken is not None, "whoever has the id must be there"
        conversation_id, _ = taken
    return conversation_id


def _known(tx: Connection, business: Business, address: str, external: str | None) -> tuple[int, str | None] | None:
    if external is not None:
        known = _KNOWN_BY_ID.first(tx, business=business.id, external=external)
        if known is not None:
            return known.id, known.external_user_id
    known = _KNOWN_BY_ADDRESS.first(tx, business=business.id, **_spellings(address))
    return None if known is None else (known.id, known.external_user_id)


def _spellings(address: str) -> dict[str, str]:
    return {"address": address, "variant": candidates(address)[-1]}


def _add(tx: Connection, business: Business, address: str, external: str | None) -> None:
    """A new conversation, unless somebody else has just added it; the customer may be known at another business."""
    client = None
    # Locked, and added anew if need be: `db repair` removes customers without a conversation.
    while client is None:
        _NEW_CLIENT.run(tx, address=address)
        client = _CLIENT.first(tx, customer=address)
    _NEW_CONVERSATION.run(tx, business_id=business.id, client_id=client.id, external_user_id=external)
