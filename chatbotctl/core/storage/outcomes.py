"""What became of messages: the outcome that whoever sent one is told, and the turns that a transcript calls failed."""

from __future__ import annotations

from sqlalchemy import Connection, and_, bindparam, func, select

from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.core.records.turn import FailedTurn, TurnState
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import business_clients, inbound_messages, outbound_messages, turns

_bc, _i, _o, _t = business_clients.c, inbound_messages.c, outbound_messages.c, turns.c

_OUTCOME = Prepared(
    select(_i.conversation_id, _t.state, _t.error_code, _t.error_message, _bc.held_by)
    .join(business_clients, _bc.id == _i.conversation_id)
    .outerjoin(turns, and_(_t.conversation_id == _i.conversation_id, _t.first_seq <= _i.seq, _t.upto_seq >= _i.seq))
    .where(_i.sid == bindparam("sid"))
)
_APOLOGY_AT = select(func.min(func.coalesce(_o.sent_at, _o.created_at))).where(_o.turn_id == _t.id).scalar_subquery()
_UNANSWERED = select(_t.upto_seq, _t.error_message, _APOLOGY_AT.label("apology_at")).where(
    # A reply that was there and only not delivered is told of by its own message.
    _t.conversation_id == bindparam("conversation"),
    _t.error_code.is_not(None),
    _t.reply.is_(None),
)


def of_message(tx: Connection, sid: str) -> Outcome | None:
    """How the message with this sid stands, from the turn that covers it; None when the sid is unknown."""
    row = _OUTCOME.first(tx, sid=sid)
    if row is None:
        return None
    result, code, message = Result.QUEUED, None, None
    if row.state == TurnState.DONE:
        result = Result.REPLIED
    elif row.state in (TurnState.DEAD, TurnState.DROPPED):
        result, code, message = Result.FAILED, row.error_code, row.error_message
    elif row.state == TurnState.WITHDRAWN:
        result = Result.WITHDRAWN
    elif row.held_by == HeldBy.OPERATOR:
        result = Result.HELD
    return Outcome(result=result, message_sid=sid, conversation_id=row.conversation_id, code=code, message=message)


def failed_turns(tx: Connection, conversation_id: int) -> list[FailedTurn]:
    """The turns of a conversation that the assistant failed in, for its transcript."""
    rows = tx.execute(_UNANSWERED, {"conversation": conversation_id})
    return [
        FailedTurn(upto_seq=row.upto_seq, message=row.error_message or "", apology_at=row.apology_at) for row in rows
    ]
