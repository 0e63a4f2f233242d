"""The WhatsApp outbox: the parts of a reply, each sent at most once. A part leaves only if its epoch still counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, case, func, insert, or_, select, update

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.delivery import FAILED, PROGRESS, DeliveryReport, reported_after
from chatbotctl.core.records.turn import OutboundPart, PartState, SentMessage, Turn
from chatbotctl.core.storage import conversations
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import business_clients, inbound_messages, outbound_messages, turns

_bc, _i, _o, _t = business_clients.c, inbound_messages.c, outbound_messages.c, turns.c
_INSERT = Prepared(insert(outbound_messages).returning(*outbound_messages.c))
_PARTS = Prepared(select(outbound_messages).where(_o.turn_id == bindparam("turn")).order_by(_o.part))
#: The states of a part that may leave.
_TO_LEAVE = (PartState.READY, PartState.SENDING)
_SENDING = Prepared(
    update(outbound_messages)
    .where(_o.id == bindparam("part_id"), _o.state.in_(_TO_LEAVE), _o.epoch == bindparam("present"))
    .values(state=PartState.SENDING, sending_at=func.coalesce(_o.sending_at, now()))
)
_SENT = Prepared(
    update(outbound_messages)
    .where(_o.id == bindparam("part_id"))
    .values(
        state=PartState.SENT,
        sent_at=now(),
        error_code=bindparam("code", type_=Text),
        # What Twilio has told since is further on, should this be written down a second time.
        delivery_status=func.coalesce(_o.delivery_status, bindparam("status", type_=Text)),
    )
)
_is_of_business = select(_bc.id).where(_bc.id == _o.conversation_id, _bc.business_id == bindparam("business")).exists()
_REPORTED = {
    status: Prepared(
        update(outbound_messages)
        .where(
            _o.sid == bindparam("message_sid"),
            _is_of_business,
            or_(_o.delivery_status.is_(None), _o.delivery_status.in_(reported_after(status))),
        )
        .values(delivery_status=status, error_code=bindparam("code", type_=Text))
        .returning(_o.conversation_id, _o.turn_id, _o.part, _o.body)
    )
    for status in (*PROGRESS, *FAILED)
}
_KNOWN = Prepared(select(_o.id).where(_o.sid == bindparam("message_sid"), _is_of_business))
_LEAVING = Prepared(
    select(_o.id)
    .where(
        _o.state == PartState.SENDING,
        _o.sender == bindparam("ours"),
        _o.recipient == bindparam("customer"),
        _is_of_business,
    )
    .limit(1)
)


def add_reply(tx: Connection, turn: Turn, bodies: Sequence[str], author: Author) -> list[OutboundPart]:
    """Put the parts of a turn's reply, which has none yet, into the outbox, numbered behind an earlier run's."""
    newest = turn.messages[-1]
    return [
        _record(
            _INSERT.one(
                tx,
                conversation_id=turn.conversation.id,
                turn_id=turn.id,
                author=author.value,
                part=number,
                # To the address that the customer wrote from just now, which need not be the one first known.
                sender=turn.conversation.business_address,
                recipient=newest.sender,
                body=body,
                epoch=turn.epoch,
            )
        )
        for number, body in enumerate(bodies, start=turn.told_parts + 1)
    ]


def parts(tx: Connection, turn_id: int) -> list[OutboundPart]:
    """The parts of a turn's reply, in order."""
    return [_record(row) for row in _PARTS.all(tx, turn=turn_id)]


def start_sending(tx: Connection, part: OutboundPart, *, epoch: int) -> bool:
    """Mark a part as leaving, if it is still to leave and of the conversation's present epoch.

    One that is `sending` already may be sent again: the caller has made sure that it did not leave. Returns False when
    it must not be sent: the epoch has moved on, so it was marked `withdrawn`, or it `has_left`.
    """
    if _SENDING.run(tx, part_id=part.id, present=epoch) == 1:
        return True
    withdraw = update(outbound_messages).where(_o.id == part.id, _o.state.in_(_TO_LEAVE))
    tx.execute(withdraw.values(state=PartState.WITHDRAWN))
    return False


def has_left(tx: Connection, part: OutboundPart) -> bool:
    """Whether it is written down by now that Twilio took the part."""
    return tx.scalar(select(_o.state).where(_o.id == part.id)) == PartState.SENT


def sending_since(tx: Connection, part: OutboundPart) -> float:
    """When the part first began to leave (seconds since 1970, the database's clock)."""
    row = tx.execute(select(_o.sending_at, _o.created_at).where(_o.id == part.id)).one()
    return float(row.created_at if row.sending_at is None else row.sending_at)


def known_sids(tx: Connection, sids: Sequence[str]) -> set[str]:
    """Those of `sids` that a message of ours has."""
    return set(tx.scalars(select(_o.sid).where(_o.sid.in_(sids)))) if sids else set()


def sent(tx: Connection, turn: Turn, part: OutboundPart, message: SentMessage) -> None:
    """Twilio took it."""
    # The conversation is locked before its parts, here as wherever both are.
    conversations.touch(tx, turn.conversation.id)
    _SENT.run(tx, part_id=part.id, sid=message.sid, status=message.status, code=message.error_code)


def reported(tx: Connection, business: Business, report: DeliveryReport) -> Any | None:
    """Write down what Twilio tells of a message of the business's, if that is news.

    Returns the row's conversation_id, turn_id, part and body; None when it is no news, or of no message that is known.
    """
    return _REPORTED[report.status].first(tx, message_sid=report.sid, business=business.id, code=report.code)


def is_known(tx: Connection, business: Business, sid: str) -> bool:
    """Whether a message of the business's has this sid."""
    return _KNOWN.first(tx, message_sid=sid, business=business.id) is not None


def is_leaving(tx: Connection, business: Business, report: DeliveryReport) -> bool:
    """Whether a message from and to whom the report tells of is on its way, so that its sid is not known yet."""
    row = _LEAVING.first(tx, business=business.id, ours=report.sender, customer=report.recipient)
    return row is not None


def not_sent(tx: Connection, part: OutboundPart, state: PartState, code: str) -> None:
    """It did not leave, as far as is known: READY or SENDING (tried again later), FAILED or UNKNOWN, and why.

    Nothing changes where it has left after all: whoever had the conversation before writes that down without a lease.
    """
    still_here = update(outbound_messages).where(_o.id == part.id, _o.state.in_(_TO_LEAVE))
    tx.execute(still_here.values(state=state, error_code=code[:60]))


def close(tx: Connection, turn_id: int, state: PartState) -> None:
    """The turn has ended: what of its reply has not left never will. `state`: FAILED or WITHDRAWN.

    Of a part that is `sending` still, which takes a fault of our own, nobody knows whether it left.
    """
    ended = case((_o.state == PartState.SENDING, PartState.UNKNOWN.value), else_=state.value)
    tx.execute(update(outbound_messages).where(_o.turn_id == turn_id, _o.state.in_(_TO_LEAVE)).values(state=ended))


def replies_to(tx: Connection, message_sid: str) -> list[OutboundPart]:
    """What was answered to the message with this sid, in order; the parts that have not left included."""
    query = (
        select(outbound_messages)
        .join(turns, _t.id == _o.turn_id)
        .join(inbound_messages, _i.conversation_id == _t.conversation_id)
        .where(_i.sid == message_sid, _t.first_seq <= _i.seq, _t.upto_seq >= _i.seq)
        .order_by(_o.part)
    )
    return [_record(row) for row in tx.execute(query)]


def _record(row: Row[Any]) -> OutboundPart:
    return OutboundPart(
        id=row.id,
        part=row.part,
        sender=row.sender,
        recipient=row.recipient,
        body=row.body,
        author=Author(row.author),
        state=PartState(row.state),
        sid=row.sid,
        error_code=row.error_code,
    )
