"""A customer's number has passed to somebody else: nobody may learn from the conversation what the last owner wrote.

Called by the inbox, in the transaction that takes the new owner's first message in, before that message is counted.
What was said stays stored for the operators.
"""

from __future__ import annotations

from sqlalchemy import Connection, Row, func, insert, select, update

from chatbotctl.core.records.turn import PartState, TurnState
from chatbotctl.core.storage import events
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import business_clients, outbound_messages, turns

_bc, _o, _t = business_clients.c, outbound_messages.c, turns.c


def begin_anew(tx: Connection, conversation_id: int) -> None:
    """Start a conversation, whose row the caller has locked, from nothing, as if a reset had been the last of it.

    Beyond a reset, the old owner's unanswered messages stay unanswered: a turn for them would reach the new owner, and
    tell the new thread of them. The worker that has one under way loses its lease.
    """
    row = tx.execute(select(_bc.last_seq, _bc.done_seq, _bc.epoch).where(_bc.id == conversation_id)).one()
    _withdraw(tx, conversation_id, row)
    tx.execute(
        update(business_clients)
        .where(_bc.id == conversation_id)
        .values(
            profile_name=None,
            language=None,
            ai_thread=None,
            reset_seq=_bc.last_seq,
            done_seq=_bc.last_seq,
            epoch=_bc.epoch + 1,
            fence=_bc.fence + 1,
            owner=None,
            lease_until=None,
            redo=0,
        )
    )
    events.record(tx, conversation_id, "new_owner", detail={"seq": row.last_seq})


def _withdraw(tx: Connection, conversation_id: int, row: Row[int, int, int]) -> None:
    """End the turns that are under way, and let one that is withdrawn stand for the messages that have none yet."""
    last_seq, done_seq, epoch = row
    # One that an operator has gone on with may be older than what was answered since.
    unfinished = (_t.conversation_id == conversation_id, _t.state.in_((TurnState.OPEN, TurnState.ANSWERED)))
    open_turns = select(_t.id).where(*unfinished)
    tx.execute(
        update(outbound_messages)
        .where(_o.turn_id.in_(open_turns), _o.state == PartState.READY)
        .values(state=PartState.WITHDRAWN)
    )
    tx.execute(update(turns).where(*unfinished).values(state=TurnState.WITHDRAWN, finished_at=now(), next_at=None))
    covered = tx.scalar(select(func.max(_t.upto_seq)).where(_t.conversation_id == conversation_id)) or done_seq
    if covered < last_seq:
        tx.execute(
            insert(turns),
            {
                "conversation_id": conversation_id,
                "first_seq": covered + 1,
                "upto_seq": last_seq,
                "state": TurnState.WITHDRAWN,
                "epoch": epoch,
            },
        )
