"""What waits, runs and failed: counted and listed for operators. Reads only.

Every question is answered from a partial index that holds what is unfinished and nothing else, so that it stays quick
however many messages there ever were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, literal_column, or_, select

from chatbotctl.core.records.backlog import Backlog, Depths, Entry, EntryId, EntryState, Kind
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.not_begun import IS_NOT_BEGUN, NOT_BEGUN
from chatbotctl.core.storage.schema import (
    business_clients,
    businesses,
    clients,
    events,
    inbound_messages,
    outbound_messages,
    slack_posts,
    turns,
)
from chatbotctl.core.storage.turns import NEXT_SEQ, PUT_OFF_UNTIL, UNFINISHED

_bc, _b, _c, _i, _o = business_clients.c, businesses.c, clients.c, inbound_messages.c, outbound_messages.c
_e, _p, _t = events.c, slack_posts.c, turns.c
_before = turns.alias("before")

_Query = Select[*tuple[Any, ...]]

TURN_DEPTHS = ("waiting", "due", "running", "postponed", "held", "dead")
SLACK_DEPTHS = ("owed", "posting", "dead")

# Written out word for word as in the indexes: SQLite uses a partial index only for a condition that it recognises.
_UNFINISHED_TURN = "state IN ('open', 'answered', 'dead')"
_OPEN_TURN = and_(literal_column(f"turns.{_UNFINISHED_TURN}"), literal_column("turns.state <> 'dead'"))
_DEAD_TURN = and_(literal_column(f"turns.{_UNFINISHED_TURN}"), literal_column("turns.state = 'dead'"))
_DROPPED_TURN: ColumnElement[bool] = literal_column("turns.state = 'dropped'")
_OPEN_POST: ColumnElement[bool] = literal_column("slack_posts.state IN ('owed', 'posting')")
_DEAD_POST: ColumnElement[bool] = literal_column("slack_posts.state = 'dead'")
_DROPPED_POST: ColumnElement[bool] = literal_column("slack_posts.state = 'dropped'")

_PENDING = and_(_bc.ready_at.is_not(None), or_(_bc.last_seq > _bc.done_seq, _bc.redo > 0))
_IS_HELD = _bc.held_by == HeldBy.OPERATOR
_IS_LEASED = and_(_bc.ready_at.is_not(None), _bc.lease_until > now())
#: Without a turn that could say so: it cannot be begun.
_IS_PUT_OFF = and_(_bc.ready_at > now(), IS_NOT_BEGUN)
_DEPTH = case(
    (_IS_HELD, "held"),
    (_IS_LEASED, "running"),
    (or_(now() < PUT_OFF_UNTIL, _IS_PUT_OFF), "postponed"),
    (_bc.ready_at <= now(), "due"),
    else_="waiting",
)
# Of a conversation's unfinished turns the oldest runs, those behind it wait.
_IS_FIRST = ~(
    select(_before.c.id)
    .where(
        _before.c.conversation_id == _t.conversation_id,
        _before.c.first_seq < _t.first_seq,
        _before.c.state.in_(UNFINISHED),
    )
    .exists()
)
_turn_state = case(
    (_t.state.not_in(UNFINISHED), _t.state),
    (and_(_bc.lease_until > now(), _IS_FIRST), "running"),
    (_t.next_at > now(), "postponed"),
    else_="waiting",
)
_thread_state = case((_IS_PUT_OFF, EntryState.POSTPONED.value), else_=EntryState.WAITING.value)
_post_state = case(
    (_p.state.not_in(("owed", "posting")), _p.state),
    (and_(_p.state == "posting", _p.lease_until > now()), "running"),
    (_p.next_at > now(), "postponed"),
    else_="waiting",
)
_reason = (
    select(func.min(_o.error_code))
    .where(_o.turn_id == _t.id, _o.part > _t.told_parts, _o.state.in_(("failed", "unknown")))
    .scalar_subquery()
)


#: Why a turn is put off: it has no failure of its own as long as another attempt is to come.
_put_off_for = (
    select(_e.detail["code"].as_string())
    .where(_e.conversation_id == _t.conversation_id, _e.turn_id == _t.id, _e.kind == "postponed")
    .order_by(_e.id.desc())
    .limit(1)
    .scalar_subquery()
)
_code = func.coalesce(_t.error_code, case((_t.next_at.is_not(None), _put_off_for)))


def count(tx: Connection, business: Business | None = None) -> Backlog:
    """The queue in numbers, all of it or one business's."""
    turn_counts: dict[int, dict[str, int]] = defaultdict(dict)
    slack_counts: dict[int, dict[str, int]] = defaultdict(dict)
    oldest: dict[int, float] = {}
    oldest_post: dict[int, float] = {}
    for row in tx.execute(_of(_pending_depths(), business)):
        turn_counts[row.business_id][row.depth] = row.number
        if row.depth != "held" and row.age is not None:
            oldest[row.business_id] = max(row.age, oldest.get(row.business_id, 0.0))
    for row in tx.execute(_of(_dead_turns(), business)):
        turn_counts[row.business_id]["dead"] = row.number
    for condition in (_OPEN_POST, _DEAD_POST):
        for row in tx.execute(_of(_post_depths(condition), business)):
            slack_counts[row.business_id][row.depth] = row.number
            if row.depth != "dead":
                oldest_post[row.business_id] = max(row.age, oldest_post.get(row.business_id, 0.0))
    ids = turn_counts.keys() | slack_counts.keys()
    names = tx.execute(select(_b.id, _b.name).where(_b.id.in_(ids)).order_by(_b.name))
    by_name = {
        name: _depths([turn_counts[id_]], [slack_counts[id_]], oldest.get(id_), oldest_post.get(id_))
        for id_, name in names
    }
    total = _depths(
        turn_counts.values(),
        slack_counts.values(),
        max(oldest.values(), default=None),
        max(oldest_post.values(), default=None),
    )
    return Backlog(total=total, businesses=by_name, workers=_leases(tx, business))


def listed(
    tx: Connection, *, states: Iterable[EntryState], kind: Kind | None, business: Business | None, limit: int
) -> list[Entry]:
    """Entries of these states, at most `limit` for each state, in the order of the states, oldest first in each.

    Arguments:
        kind: only turns (with the threads that have none yet), or only Slack posts.
        business: only this one's.
    """
    found: list[Entry] = []
    for state in states:
        of_state: list[Entry] = []
        for query in _queries(state, kind):
            of_state.extend(_entry(row) for row in tx.execute(_of(query, business).limit(limit)))
        found += sorted(of_state, key=lambda entry: (entry.since, entry.id))[:limit]
    return found


def entry(tx: Connection, id_: EntryId) -> Entry | None:
    """One entry, whatever has become of it; None when there is none."""
    query = {
        Kind.TURN: _turns().where(_t.id == id_.number),
        Kind.SLACK: _posts().where(_p.id == id_.number),
        Kind.THREAD: _threads().where(_bc.id == id_.number),
    }[id_.kind]
    row = tx.execute(query).one_or_none()
    return None if row is None else _entry(row)


def dead_ids(
    tx: Connection, kind: Kind, *, after: int, business: Business | None, code: str | None, limit: int
) -> list[int]:
    """Numbers of dead letters in their order, from the first one behind number `after` on.

    Arguments:
        kind: TURN or SLACK.
        code: only those that failed with it, be it our own code or the vendor's.
    """
    if kind is Kind.TURN:
        query = select(_t.id).join(business_clients, _bc.id == _t.conversation_id).where(_DEAD_TURN, _t.id > after)
        if code is not None:
            query = query.where(or_(_t.error_code == code, _reason == code))
        query = query.order_by(_t.id)
    else:
        query = select(_p.id).join(business_clients, _bc.id == _p.conversation_id).where(_DEAD_POST, _p.id > after)
        if code is not None:
            query = query.where(_p.error_code == code)
        query = query.order_by(_p.id)
    return list(tx.scalars(_of(query, business).limit(limit)))


def is_at_work(tx: Connection) -> bool:
    """Whether any worker has a lease at this moment."""
    return tx.scalar(select(_bc.id).where(_IS_LEASED).limit(1)) is not None


def _of(query: _Query, business: Business | None) -> _Query:
    return query if business is None else query.where(_bc.business_id == business.id)


def _pending_depths() -> _Query:
    came = select(_i.received_at).where(_i.conversation_id == _bc.id, _i.seq == NEXT_SEQ).scalar_subquery()
    depth = _DEPTH.label("depth")
    return (
        select(_bc.business_id, depth, func.count().label("number"), (now() - func.min(came)).label("age"))
        .where(_PENDING)
        .group_by(_bc.business_id, literal_column("depth"))
    )


def _dead_turns() -> _Query:
    return (
        select(_bc.business_id, func.count().label("number"))
        .select_from(turns)
        .join(business_clients, _bc.id == _t.conversation_id)
        .where(_DEAD_TURN)
        .group_by(_bc.business_id)
    )


def _post_depths(condition: ColumnElement[Any]) -> _Query:
    return (
        select(
            _bc.business_id,
            _p.state.label("depth"),
            func.count().label("number"),
            (now() - func.min(_p.created_at)).label("age"),
        )
        .select_from(slack_posts)
        .join(business_clients, _bc.id == _p.conversation_id)
        .where(condition)
        .group_by(_bc.business_id, _p.state)
    )


def _leases(tx: Connection, business: Business | None) -> dict[str, int]:
    query = (
        select(_bc.owner, func.count().label("leases")).where(_IS_LEASED, _bc.owner.is_not(None)).group_by(_bc.owner)
    )
    return {row.owner: row.leases for row in tx.execute(_of(query, business).order_by(_bc.owner))}


def _depths(
    turn_counts: Iterable[Mapping[str, int]],
    slack_counts: Iterable[Mapping[str, int]],
    oldest: float | None,
    oldest_post: float | None,
) -> Depths:
    def added(counts: Iterable[Mapping[str, int]], names: tuple[str, ...]) -> dict[str, int]:
        every = list(counts)
        return {name: sum(each.get(name, 0) for each in every) for name in names}

    return Depths(
        turns=added(turn_counts, TURN_DEPTHS),
        slack=added(slack_counts, SLACK_DEPTHS),
        oldest=oldest,
        oldest_post=oldest_post,
    )


def _queries(state: EntryState, kind: Kind | None) -> list[_Query]:
    """What finds the entries of one state, in their order."""
    turn = {EntryState.DEAD: _DEAD_TURN, EntryState.DROPPED: _DROPPED_TURN}.get(state)
    post = {EntryState.DEAD: _DEAD_POST, EntryState.DROPPED: _DROPPED_POST}.get(state)
    found: list[_Query] = []
    if kind is not Kind.SLACK:
        query = _turns().where(turn if turn is not None else and_(_OPEN_TURN, _turn_state == state.value))
        found.append(query.order_by(_t.id))
        if state in (EntryState.WAITING, EntryState.POSTPONED):
            has_turn = select(_t.id).where(_t.conversation_id == _bc.id, _t.first_seq == _bc.done_seq + 1).exists()
            waiting = and_(_bc.ready_at.is_not(None), _bc.last_seq > _bc.done_seq, ~has_turn)
            found.append(_threads().where(waiting, _thread_state == state.value).order_by(_bc.ready_at))
    if kind is not Kind.TURN:
        query = _posts().where(post if post is not None else and_(_OPEN_POST, _post_state == state.value))
        # By time: by number, SQLite would walk through all posts that ever were in their order.
        found.append(query.order_by(_p.created_at, _p.id))
    return found


def _turns() -> _Query:
    return (
        select(
            literal_column(f"'{Kind.TURN}'").label("kind"),
            _t.id,
            _turn_state.label("state"),
            _t.attempts,
            (_t.next_at - now()).label("next_in"),
            _code.label("code"),
            _reason.label("reason"),
            _i.received_at.label("since"),
            _i.simulated,
            *_whose(),
        )
        .select_from(turns)
        .join(inbound_messages, and_(_i.conversation_id == _t.conversation_id, _i.seq == _t.first_seq))
        .join(business_clients, _bc.id == _t.conversation_id)
        .join(businesses, _b.id == _bc.business_id)
        .join(clients, _c.id == _bc.client_id)
        .add_columns((now() - _i.received_at).label("age"))
    )


def _threads() -> _Query:
    return (
        select(
            literal_column(f"'{Kind.THREAD}'").label("kind"),
            _bc.id,
            _thread_state.label("state"),
            literal_column("0").label("attempts"),
            (_bc.ready_at - now()).label("next_in"),
            case((IS_NOT_BEGUN, NOT_BEGUN)).label("code"),
            literal_column("NULL").label("reason"),
            _i.received_at.label("since"),
            _i.simulated,
            *_whose(),
        )
        .select_from(business_clients)
        .join(inbound_messages, and_(_i.conversation_id == _bc.id, _i.seq == _bc.done_seq + 1))
        .join(businesses, _b.id == _bc.business_id)
        .join(clients, _c.id == _bc.client_id)
        .add_columns((now() - _i.received_at).label("age"))
    )


def _posts() -> _Query:
    return (
        select(
            literal_column(f"'{Kind.SLACK}'").label("kind"),
            _p.id,
            _post_state.label("state"),
            _p.attempts,
            (_p.next_at - now()).label("next_in"),
            _p.error_code.label("code"),
            literal_column("NULL").label("reason"),
            _p.created_at.label("since"),
            func.coalesce(_i.simulated, literal_column("false")).label("simulated"),
            *_whose(),
        )
        .select_from(slack_posts)
        .outerjoin(inbound_messages, _i.id == _p.inbound_id)
        .join(business_clients, _bc.id == _p.conversation_id)
        .join(businesses, _b.id == _bc.business_id)
        .join(clients, _c.id == _bc.client_id)
        .add_columns((now() - _p.created_at).label("age"))
    )


def _whose() -> tuple[ColumnElement[Any], ...]:
    return (
        _bc.id.label("conversation_id"),
        _IS_HELD.label("held"),
        _b.name.label("business_name"),
        _c.address.label("customer"),
    )


def _entry(row: Row[Any]) -> Entry:
    state = EntryState(row.state)
    return Entry(
        id=EntryId(Kind(row.kind), row.id),
        state=state,
        held=bool(row.held),
        business_name=row.business_name,
        conversation_id=row.conversation_id,
        customer=row.customer,
        since=row.since,
        age=max(0.0, row.age),
        # A turn counts the times that it was put off: an end, or being under way, is one more.
        attempts=row.attempts + (row.kind == Kind.TURN and state not in (EntryState.WAITING, EntryState.POSTPONED)),
        next_in=max(0.0, row.next_in) if state is EntryState.POSTPONED else None,
        code=row.code,
        reason=row.reason,
        simulated=bool(row.simulated),
    )
