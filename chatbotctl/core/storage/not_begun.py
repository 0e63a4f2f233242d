"""Conversations whose next turn cannot be begun: a row that cannot be read, or one that is not there.

Nothing of such a turn is known, so it can be no dead letter. The conversation is put off, longer each time, and the
timeline counts how often: a turn's own `attempts` may be what cannot be read, or there is no turn yet.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, func, select, update

from chatbotctl.core.records.turn import Lease
from chatbotctl.core.storage import events
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import business_clients, turns
from chatbotctl.core.storage.schema import events as event_rows
from chatbotctl.core.storage.turns import NEXT_SEQ, UNFINISHED

#: What the timeline calls it.
NOT_BEGUN = "turn_not_begun"
#: What customers and operators do meanwhile, and what Twilio tells of earlier replies, says nothing about whether the
#: turn can be begun by now.
_NO_PROGRESS = ("received", "duplicate", "delivery", "reset", "retried", "dropped")
#: Times that are written down: by then every backoff is at its longest, and the timeline must not grow for ever.
MOST_COUNTED = 10

_bc, _e, _t = business_clients.c, event_rows.c, turns.c

#: Whether it is still so, as an expression over a conversation's row.
IS_NOT_BEGUN = (
    select(_e.kind)
    .where(_e.conversation_id == _bc.id, _e.kind.not_in(_NO_PROGRESS))
    .order_by(_e.id.desc())
    .limit(1)
    .scalar_subquery()
) == NOT_BEGUN


def put_off(tx: Connection, lease: Lease, backoff: Callable[[int], float], *, error: str) -> float:
    """Give a conversation that this transaction has claimed, or whose fence it has checked, back for later.

    Arguments:
        backoff: seconds to wait after attempt number (from 1).
        error: the fault's type, for the timeline.

    Returns the seconds until it is due again.
    """
    failed = _failed(tx, lease.conversation_id)
    seconds = backoff(failed + 1)
    if failed < MOST_COUNTED:
        detail = {"error": error, "seconds": seconds}
        events.record(tx, lease.conversation_id, NOT_BEGUN, detail=detail)
    is_this = _bc.id == lease.conversation_id
    first_seq = tx.scalar(select(NEXT_SEQ).where(is_this))
    # Where there is a turn, a customer who writes on must not make it due sooner.
    begun = update(turns).where(
        _t.conversation_id == lease.conversation_id, _t.first_seq == first_seq, _t.state.in_(UNFINISHED)
    )
    tx.execute(begun.values(next_at=now() + seconds))
    given_back = {"owner": None, "lease_until": None, "ready_at": now() + seconds}
    tx.execute(update(business_clients).where(is_this).values(given_back))
    return seconds


def _failed(tx: Connection, conversation_id: int) -> int:
    """How often it was put off since anything else came of the conversation."""
    mine = _e.conversation_id == conversation_id
    since = select(func.coalesce(func.max(_e.id), 0)).where(mine, _e.kind.not_in((NOT_BEGUN, *_NO_PROGRESS)))
    times = select(func.count()).where(mine, _e.kind == NOT_BEGUN, _e.id > since.scalar_subquery())
    return tx.scalar(times) or 0
