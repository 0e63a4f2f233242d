"""Turns: claiming a conversation, opening or resuming its turn, and every write that the claim's fence protects.

A conversation is worked on by whoever has its lease. `claim` is one UPDATE; whatever that worker decides later is
written in a transaction that begins with `check_fence`, which locks the row and raises LeaseLost when the fence has
moved on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    and_,
    bindparam,
    case,
    func,
    insert,
    null,
    or_,
    select,
    true,
    update,
)

from chatbotctl.core.errors import LeaseLost
from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.conversation import Conversation, Due, HeldBy
from chatbotctl.core.records.message import StoredMessage
from chatbotctl.core.records.turn import Failure, Lease, Turn, TurnState
from chatbotctl.core.storage import businesses, conversations, events, inbox
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import business_clients, inbound_messages, outbound_messages, turns

#: Most messages that one turn answers; what a burst has beyond it becomes the next turn.
MAX_MESSAGES = 20
#: States of a turn that somebody has to work on.
UNFINISHED = (TurnState.OPEN, TurnState.ANSWERED)

_bc, _i, _o, _t = business_clients.c, inbound_messages.c, outbound_messages.c, turns.c


def _due() -> tuple[ColumnElement[bool], ...]:
    return (
        _bc.ready_at <= now(),
        or_(_bc.last_seq > _bc.done_seq, _bc.redo > 0),
        _bc.held_by == HeldBy.ASSISTANT,
        or_(_bc.lease_until.is_(None), _bc.lease_until <= now()),
    )


# A row that somebody has locked is passed over: whoever has it wakes a worker, or else the sweeper comes by again. To
# wait for it would cost a connection and a thread for each conversation of a business that is being worked on.
_free = (
    select(_bc.id)
    .where(_bc.id == bindparam("conversation"))
    # As an UPDATE locks it, here and below: beside whoever adds a row of it (that a copy of a message came, say).
    .with_for_update(skip_locked=True, key_share=True)
    .correlate(None)
).scalar_subquery()
_claimed = (
    update(business_clients)
    .where(_bc.id == _free, *_due())
    .values(lease_until=now() + bindparam("lease_seconds", type_=Double), fence=_bc.fence + 1)
    .returning(_bc.fence, _bc.redo)
)
# Turns of the conversation that are gone on with, and their order: they come before what is newer.
_REDONE = (_t.conversation_id == _bc.id, _t.upto_seq <= _bc.done_seq, _t.state.in_(UNFINISHED))
_FIRST_REDONE = select(func.min(_t.first_seq)).where(*_REDONE).scalar_subquery()
#: The number of the message that a conversation's next turn begins with, as an expression over its row.
NEXT_SEQ = case((_bc.redo > 0, _FIRST_REDONE), else_=_bc.done_seq + 1)
_is_simulated = select(_i.id).where(_i.conversation_id == _bc.id, _i.seq == NEXT_SEQ, _i.simulated.is_(true())).exists()
_CLAIM, _CLAIM_SIMULATED = Prepared(_claimed), Prepared(_claimed.where(_is_simulated))
_AS_IT_IS = Prepared(update(business_clients).where(_bc.id == _free).values(ready_at=_bc.ready_at))
_FENCE = Prepared(
    select(_bc.fence, _bc.epoch).where(_bc.id == bindparam("conversation")).with_for_update(key_share=True)
)
_HELD = Prepared(select(_bc.fence).where(_bc.id == bindparam("conversation")))
_KEPT = Prepared(
    update(business_clients)
    .where(_bc.id == bindparam("conversation"), _bc.fence == bindparam("held"))
    .values(lease_until=now() + bindparam("lease_seconds", type_=Double))
    .returning(_bc.epoch)
)
_TURN = Prepared(
    select(turns).where(_t.conversation_id == bindparam("conversation"), _t.first_seq == bindparam("first"))
)
# By when it was said: a turn that is gone on with may be older than what was answered since.
_REPLY_BEFORE = Prepared(
    select(_t.reply)
    .where(_t.conversation_id == bindparam("conversation"), _t.id != bindparam("turn"), _t.reply.is_not(None))
    .order_by(_t.answered_at.desc(), _t.id.desc())
    .limit(1)
)
_TURN_REDONE = Prepared(
    select(turns)
    .where(
        _t.conversation_id == bindparam("conversation"),
        _t.upto_seq <= bindparam("done"),
        _t.state.in_(UNFINISHED),
    )
    .order_by(_t.first_seq)
    .limit(1)
)
_NEW_TURN = Prepared(insert(turns).returning(*turns.c))
_ANSWERED = Prepared(
    update(turns).where(_t.id == bindparam("turn")).values(state=TurnState.ANSWERED, answered_at=now())
)
_FINISHED = Prepared(update(turns).where(_t.id == bindparam("turn")).values(finished_at=now(), next_at=None))
_GIVEN_BACK = Prepared(
    update(business_clients)
    .where(_bc.id == bindparam("conversation"))
    .values(
        owner=None,
        lease_until=None,
        ready_at=case((or_(_bc.last_seq > bindparam("upto"), _bc.redo > 0), _bc.ready_at), else_=null()),
    )
    .returning((_bc.ready_at - now()).label("wait"))
)
_LEFT = select(func.count()).select_from(turns).where(*_REDONE).scalar_subquery()
#: Until when a conversation's next turn is put off, as an expression over its row; NULL: it is not.
PUT_OFF_UNTIL = case(
    (_LEFT > 0, select(_t.next_at).where(*_REDONE).order_by(_t.first_seq).limit(1).scalar_subquery()),
    else_=select(_t.next_at).where(_t.conversation_id == _bc.id, _t.first_seq == _bc.done_seq + 1).scalar_subquery(),
)
# After a turn that was gone on with: what is next keeps its own time, be it a burst window or a backoff.
_GIVEN_BACK_REDONE = Prepared(
    update(business_clients)
    .where(_bc.id == bindparam("conversation"))
    .values(
        owner=None,
        lease_until=None,
        redo=_LEFT,
        ready_at=case(
            (and_(_bc.last_seq <= _bc.done_seq, _LEFT == 0), null()),
            (_bc.ready_at < PUT_OFF_UNTIL, PUT_OFF_UNTIL),
            else_=_bc.ready_at,
        ),
    )
    .returning((_bc.ready_at - now()).label("wait"))
)
_TO_BE_REDONE = Prepared(
    update(business_clients)
    .where(_bc.id == bindparam("conversation"))
    .values(redo=_LEFT, ready_at=case((now() < PUT_OFF_UNTIL, PUT_OFF_UNTIL), else_=now()))
)
_MESSAGES = Prepared(
    select(inbound_messages)
    .where(_i.conversation_id == bindparam("conversation"), _i.seq >= bindparam("first"))
    .order_by(_i.seq)
    .limit(bindparam("most"))
)


def claim(
    tx: Connection, conversation_id: int, *, owner: str, lease_seconds: float, simulated_only: bool = False
) -> Lease | None:
    """Take the conversation if it is due and nobody else has it; None otherwise.

    Arguments:
        simulated_only: leave it alone when the message that is next in it is a real customer's.
    """
    statement = _CLAIM_SIMULATED if simulated_only else _CLAIM
    row = statement.first(tx, conversation=conversation_id, owner=owner, lease_seconds=lease_seconds)
    return None if row is None else Lease(conversation_id=conversation_id, fence=row.fence, redo=row.redo > 0)


def due(tx: Connection, limit: int, *, without: Collection[int] = ()) -> list[Due]:
    """Conversations that are due and not leased, longest due first.

    Arguments:
        without: businesses whose conversations are left out.
    """
    query = select(_bc.id, _bc.business_id).where(*_due()).order_by(_bc.ready_at).limit(limit)
    if without:
        query = query.where(_bc.business_id.not_in(without))
    return [Due(row.id, row.business_id) for row in tx.execute(query)]


def try_to_write(tx: Connection, conversation_id: int) -> None:
    """Write a conversation's row as it is: whether the database takes writes, and has the room for them.

    One that somebody has locked says nothing about that, and is passed over.
    """
    _AS_IT_IS.run(tx, conversation=conversation_id)


def waiting(tx: Connection) -> tuple[int, float]:
    """How many conversations are due and not leased, and for how many seconds the longest due has been (0: none is)."""
    row = tx.execute(select(func.count(), now() - func.min(_bc.ready_at)).where(*_due())).one()
    return row[0], max(0.0, row[1] or 0.0)


def renew(tx: Connection, owner: str, lease_seconds: float, conversation_ids: Collection[int]) -> int:
    """The heartbeat: extend this worker's leases; returns how many there are.

    One that has run out while the database was away is extended too, if nobody has taken the conversation since. A row
    that somebody has locked is left to the next heartbeat: to wait for it would cost all the others their leases.

    Arguments:
        conversation_ids: what it is working on. Other leases of its own (their turns broke off because the database was
            away) must run out, or nobody would ever take those conversations up again.
    """
    own = (_bc.owner == owner, _bc.id.in_(conversation_ids))
    free = select(_bc.id).where(*own).with_for_update(skip_locked=True, key_share=True).correlate(None)
    return tx.execute(
        update(business_clients).where(*own, _bc.id.in_(free)).values(lease_until=now() + lease_seconds)
    ).rowcount


def check_fence(tx: Connection, lease: Lease) -> int:
    """Lock the conversation for this transaction and check the fence; returns its present epoch. Raises LeaseLost."""
    row = _FENCE.first(tx, conversation=lease.conversation_id)
    if row is None or row.fence != lease.fence:
        raise LeaseLost
    return int(row.epoch)


def holds(tx: Connection, lease: Lease) -> bool:
    """Lock the conversation for this transaction; returns whether the lease still counts."""
    row = _FENCE.first(tx, conversation=lease.conversation_id)
    return row is not None and row.fence == lease.fence


def require_held(tx: Connection, lease: Lease) -> None:
    """`check_fence` for what only reads, or asks outside: as of now, without locking. Raises LeaseLost."""
    row = _HELD.first(tx, conversation=lease.conversation_id)
    if row is None or row.fence != lease.fence:
        raise LeaseLost


def has_ended(tx: Connection, turn: Turn) -> bool:
    """Whether the turn's end is written down."""
    return tx.scalar(select(_t.state).where(_t.id == turn.id)) not in UNFINISHED


def keep(tx: Connection, lease: Lease, lease_seconds: float) -> int:
    """`check_fence` that also renews the lease: for `lease_seconds` from now on nobody else takes the conversation.

    Raises LeaseLost.
    """
    row = _KEPT.first(tx, conversation=lease.conversation_id, held=lease.fence, lease_seconds=lease_seconds)
    if row is None:
        raise LeaseLost
    return int(row.epoch)


def open_turn(tx: Connection, lease: Lease, *, one_message: bool) -> Turn:
    """The turn that is next in a conversation that this transaction has claimed: one a dead worker left, or a new one.

    Those that an operator wants to be gone on with come first, oldest first.

    Arguments:
        one_message: a new turn takes one message only (no burst window), not all that are waiting.
    """
    conversation = conversations.get(tx, lease.conversation_id)
    row = _begun(tx, conversation, lease)
    is_resumed = row is not None
    if row is None:
        messages = _burst(tx, conversation.id, conversation.done_seq + 1, 1 if one_message else MAX_MESSAGES)
        row = _new_turn(tx, conversation, messages)
    else:
        messages = _messages(tx, conversation.id, row.first_seq, row.upto_seq - row.first_seq + 1)
    epoch = row.epoch
    if row.state == TurnState.OPEN and epoch != conversation.epoch:
        # A reset came while the turn was put off and had said nothing yet: it is answered anew, not withdrawn.
        epoch = conversation.epoch
        tx.execute(update(turns).where(_t.id == row.id).values(epoch=epoch))
    return Turn(
        id=row.id,
        lease=lease,
        conversation=conversation,
        business=businesses.get(tx, conversation.business_id),
        messages=messages,
        epoch=epoch,
        attempts=row.attempts,
        resumed=is_resumed,
        redone=row.upto_seq <= conversation.done_seq,
        told_parts=row.told_parts,
        # A reply that is there and did not get through: its failure ended the turn once, and no more than that.
        told_reply=row.reply is not None and row.error_code is not None,
        answered=row.state == TurnState.ANSWERED,
        reply=row.reply,
        reply_translation=row.reply_translation,
        needs_human=row.needs_human,
        failure=None if row.reply is not None else _failure(row),
    )


def reply_before(tx: Connection, turn: Turn) -> str | None:
    """What the assistant last said in the turn's conversation, other than in this turn; None: nothing."""
    row = _REPLY_BEFORE.first(tx, conversation=turn.conversation.id, turn=turn.id)
    return None if row is None else str(row.reply)


def store_answer(tx: Connection, turn: Turn, answer: Answer, translation: str | None) -> None:
    """Keep what the assistant said: from now on the turn never asks again."""
    _ANSWERED.run(
        tx,
        turn=turn.id,
        reply=answer.text,
        reply_translation=translation,
        needs_human=answer.needs_human,
        # Whatever a server calls them: PostgreSQL refuses what is too long, and the reply would be lost with it.
        response_id=answer.response_id[:160] if answer.response_id else None,
        model=answer.model[:120] if answer.model else None,
        usage={name: count for name, count in asdict(answer.usage).items() if count is not None},
    )


def store_own_line(tx: Connection, turn: Turn, failure: Failure | None) -> None:
    """Keep that a line of our own answers (or nothing at all), and why, when the assistant failed."""
    _ANSWERED.run(tx, turn=turn.id, **_why(failure))


def finish(tx: Connection, turn: Turn, state: TurnState, failure: Failure | None = None) -> float | None:
    """End the turn and give the conversation back.

    Arguments:
        state: DONE, DEAD or WITHDRAWN.
        failure: why the turn is dead.

    Returns the seconds until the conversation is due again, or None when nothing is waiting.
    """
    _FINISHED.run(tx, turn=turn.id, state=state, **_why(failure))
    if turn.redone:
        back = _GIVEN_BACK_REDONE.one(tx, conversation=turn.conversation.id)
    else:
        back = _GIVEN_BACK.one(tx, conversation=turn.conversation.id, done_seq=turn.upto_seq, upto=turn.upto_seq)
    return None if back.wait is None else max(0.0, back.wait)


def postpone(tx: Connection, turn: Turn, seconds: float, *, code: str) -> None:
    """Give the conversation back with its turn unfinished, due again in `seconds`."""
    tx.execute(update(turns).where(_t.id == turn.id).values(attempts=_t.attempts + 1, next_at=now() + seconds))
    tx.execute(
        update(business_clients)
        .where(_bc.id == turn.conversation.id)
        .values(owner=None, lease_until=None, ready_at=now() + seconds)
    )
    events.record(tx, turn.conversation.id, "postponed", turn_id=turn.id, detail={"code": code, "seconds": seconds})


def redo(tx: Connection, conversation_id: int) -> None:
    """Make a conversation due whose ended turns were just made unfinished again; its row is locked by the caller.

    They come before newer messages; one that is first and put off keeps its backoff.
    """
    _TO_BE_REDONE.run(tx, conversation=conversation_id)


def _begun(tx: Connection, conversation: Conversation, lease: Lease) -> Row[Any] | None:
    """The turn that is next, if it was begun before."""
    if lease.redo:
        row: Row[Any] | None = _TURN_REDONE.first(tx, conversation=conversation.id, done=conversation.done_seq)
        if row is not None:
            return row
    return _TURN.first(tx, conversation=conversation.id, first=conversation.done_seq + 1)


def _new_turn(tx: Connection, conversation: Conversation, messages: Sequence[StoredMessage]) -> Row[Any]:
    upto_seq = messages[-1].seq
    row: Row[Any] = _NEW_TURN.one(
        tx,
        conversation_id=conversation.id,
        first_seq=messages[0].seq,
        upto_seq=upto_seq,
        epoch=conversation.epoch,
    )
    events.record(tx, conversation.id, "turn_opened", turn_id=row.id, detail={"upto_seq": upto_seq})
    return row


def _burst(tx: Connection, conversation_id: int, first_seq: int, limit: int) -> tuple[StoredMessage, ...]:
    """What a new turn answers: real and simulated messages never share one, for only real ones may be sent."""
    waiting = _messages(tx, conversation_id, first_seq, limit)
    return tuple(takewhile(lambda message: message.simulated == waiting[0].simulated, waiting))


def _messages(tx: Connection, conversation_id: int, first_seq: int, count: int) -> tuple[StoredMessage, ...]:
    rows = _MESSAGES.all(tx, conversation=conversation_id, first=first_seq, most=count)
    return tuple(inbox.stored_message(row) for row in rows)


def _failure(row: Row[Any]) -> Failure | None:
    return Failure(code=row.error_code, message=row.error_message or "") if row.error_code else None


def _why(failure: Failure | None) -> dict[str, str | None]:
    return {
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
    }
