"""What `db repair` and `db restore` write: never a message away, never anything that could be sent a second time.

Every function works on rows whose conversation the caller has locked (`lock`, or `facts`, which locks it too) and asks
its conditions again there. Works on older schemas as well, as far back as a backup may be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from sqlalchemy import (
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    null,
    or_,
    select,
    update,
)

from chatbotctl.core.records.mending import ConversationFacts, DueTime, Mending, TurnFacts
from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import Failure, PartState, TurnState
from chatbotctl.core.storage import consistency, events
from chatbotctl.core.storage.consistency import FAR
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import (
    business_clients,
    clients,
    inbound_messages,
    outbound_messages,
    slack_posts,
    turns,
)
from chatbotctl.core.storage.turns import MAX_MESSAGES, UNFINISHED

_bc, _c, _i, _o, _p, _t = (
    business_clients.c,
    clients.c,
    inbound_messages.c,
    outbound_messages.c,
    slack_posts.c,
    turns.c,
)


def has_redo(tx: Connection) -> bool:
    """Whether the schema has turns that are run again (from 0002 on)."""
    return any(column["name"] == _bc.redo.name for column in inspect(tx).get_columns(business_clients.name))


def lock(tx: Connection, conversation_id: int) -> None:
    """Keep a conversation's row to this transaction."""
    tx.execute(select(_bc.id).where(_bc.id == conversation_id).with_for_update())


def facts(tx: Connection, conversation_id: int, *, with_redo: bool = True) -> ConversationFacts | None:
    """How a conversation stands, its row locked; None when it is gone."""
    query = select(
        _bc.last_seq,
        _bc.done_seq,
        _bc.reset_seq,
        (_bc.redo if with_redo else literal(0)).label("redo"),
        case((_bc.ready_at.is_(None), null()), else_=_bc.ready_at <= now() + FAR).label("is_due"),
        or_(_bc.owner.is_(None) != _bc.lease_until.is_(None), func.coalesce(_bc.lease_until, 0) > now() + FAR).label(
            "lease_is_wrong"
        ),
        func.coalesce(_bc.lease_until.between(now(), now() + FAR), False).label("is_leased"),
    )
    row = tx.execute(query.where(_bc.id == conversation_id).with_for_update()).one_or_none()
    if row is None:
        return None
    mine = _i.conversation_id == conversation_id
    newest = tx.scalar(select(func.coalesce(func.max(_i.seq), 0)).where(mine)) or 0
    waiting = tx.scalars(select(_i.seq).where(mine, _i.seq > row.done_seq).order_by(_i.seq))
    return ConversationFacts(
        last_seq=row.last_seq,
        done_seq=row.done_seq,
        reset_seq=row.reset_seq,
        redo=row.redo,
        is_due=None if row.is_due is None else bool(row.is_due),
        lease_is_wrong=bool(row.lease_is_wrong),
        is_leased=bool(row.is_leased),
        newest_message=newest,
        waiting=tuple(waiting),
        turns=tuple(_turns(tx, conversation_id)),
    )


def mend(
    tx: Connection,
    conversation_id: int,
    wanted: Mending,
    why: Failure,
    *,
    unsent: PartState = PartState.FAILED,
    with_redo: bool = True,
) -> None:
    """Write what was decided about a conversation, and take it from whoever has had it (fence + 1).

    Arguments:
        why: what the dead letters that are made say of themselves.
        unsent: what becomes of their parts that were still to leave: FAILED, or UNKNOWN where they may have left since,
            which `queue retry` looks up in Twilio's list before it sends them.
    """
    _end(tx, wanted.ended, why, unsent)
    for first, last in wanted.uncovered:
        _cover(tx, conversation_id, first, last, why)
    values = {"last_seq": wanted.last_seq, "done_seq": wanted.done_seq, "reset_seq": wanted.reset_seq}
    if with_redo:
        values["redo"] = wanted.redo
    ready_at = {DueTime.KEEP: _bc.ready_at, DueTime.NOW: now(), DueTime.NEVER: null()}[wanted.due]
    tx.execute(
        update(business_clients)
        .where(_bc.id == conversation_id)
        .values(**values, ready_at=ready_at, owner=None, lease_until=None, fence=_bc.fence + 1)
    )
    detail = {"code": why.code, "ended": len(wanted.ended), "uncovered": len(wanted.uncovered)}
    events.record(tx, conversation_id, "repaired", detail=detail)


def mend_parts(tx: Connection, conversation_id: int, part_ids: Collection[int]) -> None:
    """Parts of replies that have ended: what never left never will, and of what was leaving nobody knows."""
    mine = (_o.id.in_(part_ids), _o.conversation_id == conversation_id, _t.id == _o.turn_id)
    withdrawn = exists().where(_t.id == _o.turn_id, _t.state.in_((TurnState.WITHDRAWN, TurnState.DROPPED)))
    state = case((withdrawn, PartState.WITHDRAWN.value), else_=PartState.FAILED.value)
    part = update(outbound_messages)
    tx.execute(part.where(_o.id.in_(part_ids), exists().where(*mine, consistency.left_behind)).values(state=state))
    unknown = {"state": PartState.UNKNOWN, "error_code": "interrupted"}
    tx.execute(part.where(_o.id.in_(part_ids), exists().where(*mine, consistency.still_leaving)).values(unknown))


def mend_posts(tx: Connection, conversation_id: int, post_ids: Collection[int]) -> None:
    """Slack posts that nobody would ever post: given back, due now, in a lane of their own conversation's."""
    mine = update(slack_posts).where(_p.id.in_(post_ids), _p.conversation_id == conversation_id)
    owed = {"state": PostState.OWED, "lease_until": None}
    tx.execute(mine.where(consistency.held_for_nobody).values(owed))
    tx.execute(mine.where(consistency.put_off_too_far).values(next_at=now()))
    lane = case((_p.lane.startswith("b"), consistency.business_lane), else_=consistency.own_lane)
    tx.execute(mine.where(consistency.in_wrong_lane).values(lane=lane))


def remove_clients(tx: Connection, client_ids: Collection[int]) -> int:
    """Delete those customers that no conversation needs; returns how many.

    Locked first and looked at after that: a conversation that is being added would otherwise go with its customer.
    """
    tx.execute(select(_c.id).where(_c.id.in_(client_ids)).order_by(_c.id).with_for_update()).all()
    unneeded = ~exists().where(_bc.client_id == _c.id)
    return tx.execute(delete(clients).where(_c.id.in_(client_ids), unneeded)).rowcount


def pending(tx: Connection, *, with_redo: bool = True) -> list[int]:
    """The conversations in which anything is under way or waiting."""
    anything = [_bc.last_seq > _bc.done_seq, _bc.ready_at.is_not(None), _bc.lease_until.is_not(None)]
    if with_redo:
        anything.append(_bc.redo > 0)
    unfinished = select(_t.conversation_id).where(_t.state.in_(UNFINISHED))
    return list(tx.scalars(select(_bc.id).where(or_(*anything, _bc.id.in_(unfinished))).order_by(_bc.id)))


def hold_posts(tx: Connection, code: str) -> int:
    """Make all that Slack is owed dead letters; returns how many."""
    owed = _p.state.in_((PostState.OWED.value, PostState.POSTING.value))
    held = {"state": PostState.DEAD, "lease_until": None, "error_code": code}
    return tx.execute(update(slack_posts).where(owed).values(held)).rowcount


def _turns(tx: Connection, conversation_id: int) -> Iterator[TurnFacts]:
    messages = (
        select(func.count())
        .where(_i.conversation_id == _t.conversation_id, _i.seq >= _t.first_seq, _i.seq <= _t.upto_seq)
        .scalar_subquery()
    )
    lacks = and_(_t.state.in_(UNFINISHED), messages != _t.upto_seq - _t.first_seq + 1)
    query = select(_t.id, _t.first_seq, consistency.turn_end.label("upto_seq"), _t.state, lacks.label("lacks"))
    for row in tx.execute(query.where(_t.conversation_id == conversation_id).order_by(_t.first_seq)):
        yield TurnFacts(
            id=row.id,
            first_seq=row.first_seq,
            upto_seq=row.upto_seq,
            unfinished=row.state in UNFINISHED,
            complete=not row.lacks,
        )


def _end(tx: Connection, turn_ids: Collection[int], why: Failure, unsent: PartState) -> None:
    """Make unfinished turns dead letters, with what has not left of them. What may have left is never sent again."""
    if not turn_ids:
        return
    dead = {"state": TurnState.DEAD, "error_code": why.code, "error_message": why.message, "next_at": None}
    tx.execute(update(turns).where(_t.id.in_(turn_ids), _t.state.in_(UNFINISHED)).values(**dead, finished_at=now()))
    parts = update(outbound_messages).where(_o.turn_id.in_(turn_ids))
    unknown = {"state": PartState.UNKNOWN, "error_code": "interrupted"}
    tx.execute(parts.where(_o.state == PartState.SENDING).values(unknown))
    tx.execute(parts.where(_o.state == PartState.READY).values(state=unsent, error_code=why.code))


def _cover(tx: Connection, conversation_id: int, first: int, last: int, why: Failure) -> None:
    """Make dead letters for messages that no turn answers; where there are no messages, a withdrawn turn stands.

    In portions that a turn may have: simulated and real messages never share one, for only real ones may be sent.
    """
    query = select(_i.seq, _i.simulated).where(_i.conversation_id == conversation_id, _i.seq >= first, _i.seq <= last)
    epoch = tx.scalar(select(_bc.epoch).where(_bc.id == conversation_id))
    rows = []

    def stand(begin: int, end: int, state: TurnState) -> None:
        failure = (why.code, why.message) if state is TurnState.DEAD else (None, None)
        values = {"conversation_id": conversation_id, "first_seq": begin, "upto_seq": end, "state": state}
        rows.append(values | {"epoch": epoch, "error_code": failure[0], "error_message": failure[1]})

    begin = first
    found = tx.execute(query.order_by(_i.seq)).all()
    # What is numbered without a gap and alike has one and the same difference to its place in the row.
    for _, run in groupby(enumerate(found), key=lambda each: (each[1].seq - each[0], each[1].simulated)):
        numbers = [row.seq for _, row in run]
        if numbers[0] > begin:
            stand(begin, numbers[0] - 1, TurnState.WITHDRAWN)
        for start in range(0, len(numbers), MAX_MESSAGES):
            portion = numbers[start : start + MAX_MESSAGES]
            stand(portion[0], portion[-1], TurnState.DEAD)
        begin = numbers[-1] + 1
    if begin <= last:
        stand(begin, last, TurnState.WITHDRAWN)
    tx.execute(insert(turns).values(finished_at=now()), rows)
