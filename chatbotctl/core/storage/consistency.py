"""What rows say that contradicts other rows: for each way in which they can, the query that finds those that do.

The rules are those of the files beside this one. Between commits they always hold, so a query that sees one moment of
the database finds nothing in a healthy one, however busy. What depends on the clock leaves hours of room. Used by
upkeep alone (`db check`, `db repair`); what each finding means, and what can be done, stands in
upkeep/database_findings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)

from chatbotctl.core.records.conversation import HeldBy
from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import PartState
from chatbotctl.core.storage.engine import Database, now
from chatbotctl.core.storage.not_begun import IS_NOT_BEGUN
from chatbotctl.core.storage.schema import (
    business_clients,
    clients,
    inbound_messages,
    metadata,
    outbound_messages,
    slack_posts,
    turns,
)
from chatbotctl.core.storage.turns import UNFINISHED

#: Seconds ahead that no lease, no backoff and no service's Retry-After ever reaches (the longest is an hour).
FAR = 6 * 3600
#: Seconds after which what is due should long have been taken up, where anything runs at all.
LATE = 3600
#: Seconds after its turn has ended that a part may still be called `sending`: until Twilio has answered, or timed out.
LEAVING = 600

#: Which rows are looked at, as a condition on the column that holds their id.
Scope = Callable[[Any], ColumnElement[bool]]

_bc, _c, _i, _o, _p, _t = (
    business_clients.c,
    clients.c,
    inbound_messages.c,
    outbound_messages.c,
    slack_posts.c,
    turns.c,
)
_is_unfinished = _t.state.in_(UNFINISHED)
_is_pending = or_(_bc.last_seq > _bc.done_seq, _bc.redo > 0)
_is_open_post = _p.state.in_((PostState.OWED.value, PostState.POSTING.value))


@dataclass(frozen=True, slots=True)
class Probe:
    """One way in which rows can contradict each other."""

    #: Stable: part of what `db check --json` prints.
    code: str
    #: Whose ids are found.
    table: Table[Any]
    find: Callable[[Scope], Select[Any]]


def _page_scope(column: Any) -> ColumnElement[bool]:
    return and_(column >= bindparam("first_id"), column <= bindparam("last_id"))


def _ids_scope(column: Any) -> ColumnElement[bool]:
    return and_(column.in_(bindparam("ids", expanding=True)))


@contextmanager
def moment(database: Database) -> Iterator[Connection]:
    """A read transaction whose queries all see the same moment. Raises StorageUnavailable."""
    if database.is_sqlite:  # whose read transactions are like that by themselves
        with database.read() as tx:
            yield tx
        return
    # On PostgreSQL `read` is no transaction.
    with database.write() as tx:
        tx.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield tx


def count(tx: Connection, table: Table[Any]) -> int:
    """How many rows a table has."""
    return tx.scalar(select(func.count()).select_from(table)) or 0


def extent(tx: Connection) -> tuple[int, float | None]:
    """How many conversations there are, and when anything was last said in one (seconds since 1970)."""
    return count(tx, business_clients), tx.scalar(select(func.max(_bc.last_message_at)))


def last_of_page(tx: Connection, table: Table[Any], *, after: int, limit: int) -> int | None:
    """The id that a page of `limit` rows ends with; None when no row follows `after`."""
    page = select(table.c.id).where(table.c.id > after).order_by(table.c.id).limit(limit).subquery()
    last: int | None = tx.scalar(select(func.max(page.c.id)))
    return last


def in_page(tx: Connection, probe: Probe, *, first: int, last: int) -> list[int]:
    """The ids that a probe finds from `first` to `last`."""
    return list(tx.scalars(probe.find(_page_scope), {"first_id": first, "last_id": last}))


def among(tx: Connection, probe: Probe, ids: Collection[int]) -> list[int]:
    """Those of `ids` (some hundreds at most) that a probe finds."""
    return list(tx.scalars(probe.find(_ids_scope), {"ids": list(ids)}))


def conversations_of(tx: Connection, table: Table[Any], ids: Collection[int]) -> dict[int, int]:
    """Row id -> its conversation, for rows of a table that belong to one."""
    rows = tx.execute(select(table.c.id, table.c.conversation_id).where(table.c.id.in_(ids)))
    return {row.id: row.conversation_id for row in rows}


# conversations: the row, its messages and its turns. What is asked of every row of a page is a scalar subquery where a
# join would do, because PostgreSQL reads a whole table to join it with a page.


def _in_conversation(*conditions: ColumnElement[bool]) -> Callable[[Scope], Select[Any]]:
    return lambda scope: select(_bc.id).where(scope(_bc.id), *conditions)


_newest_message = select(func.coalesce(func.max(_i.seq), 0)).where(_i.conversation_id == _bc.id).scalar_subquery()
#: A turn covers the message that it begins with, whatever else its row says.
turn_end = case((_t.upto_seq >= _t.first_seq, _t.upto_seq), else_=_t.first_seq)
_newest_turn = select(func.coalesce(func.max(turn_end), 0)).where(_t.conversation_id == _bc.id).scalar_subquery()
_newest = case((_newest_message >= _newest_turn, _newest_message), else_=_newest_turn)
_messages = select(func.count()).where(_i.conversation_id == _bc.id).scalar_subquery()
_newest_ended = select(func.max(_t.upto_seq)).where(_t.conversation_id == _bc.id, ~_is_unfinished).scalar_subquery()
_out_of_place = exists().where(
    _t.conversation_id == _bc.id, _is_unfinished, _t.upto_seq > _bc.done_seq, _t.first_seq != _bc.done_seq + 1
)
_messages_of_turn = (
    select(func.count())
    .where(_i.conversation_id == _t.conversation_id, _i.seq.between(_t.first_seq, _t.upto_seq))
    .scalar_subquery()
)
_lacks_messages = exists().where(
    _t.conversation_id == _bc.id, _is_unfinished, _messages_of_turn != _t.upto_seq - _t.first_seq + 1
)
_redone = (
    select(func.count()).where(_t.conversation_id == _bc.id, _is_unfinished, _t.upto_seq <= _bc.done_seq)
).scalar_subquery()
_next_message = exists().where(_i.conversation_id == _bc.id, _i.seq == _bc.done_seq + 1)
_next_turn = exists().where(_t.conversation_id == _bc.id, _t.first_seq == _bc.done_seq + 1)
_is_leased = and_(_bc.lease_until.is_not(None), _bc.lease_until > now())


def _in_turn_order(scope: Scope) -> Any:
    """The turns of conversations, each with the end of the one before it (0: it is the first)."""
    before = func.lag(turn_end, 1, 0).over(partition_by=_t.conversation_id, order_by=_t.first_seq)
    columns = (_t.conversation_id, _t.first_seq, _t.upto_seq, before.label("before"))
    return select(*columns).where(scope(_t.conversation_id)).subquery()


def _turns_overlap(scope: Scope) -> Select[Any]:
    each = _in_turn_order(scope)
    return (
        select(each.c.conversation_id)
        .where(or_(each.c.first_seq <= each.c.before, each.c.upto_seq < each.c.first_seq))
        .distinct()
    )


def _turn_missing(scope: Scope) -> Select[Any]:
    """Somewhere at or below done_seq: between two turns, or behind the last."""
    each = _in_turn_order(scope)
    between = exists().where(
        each.c.conversation_id == _bc.id, each.c.first_seq > each.c.before + 1, each.c.before < _bc.done_seq
    )
    return select(_bc.id).where(scope(_bc.id), or_(_newest_turn < _bc.done_seq, between))


_CONVERSATIONS = (
    Probe("last_seq_wrong", business_clients, _in_conversation(_bc.last_seq != _newest)),
    Probe("messages_missing", business_clients, _in_conversation(_messages != _newest)),
    Probe("done_seq_too_high", business_clients, _in_conversation(_bc.done_seq > _bc.last_seq)),
    Probe("reset_seq_too_high", business_clients, _in_conversation(_bc.reset_seq > _bc.last_seq)),
    Probe("turns_overlap", business_clients, _turns_overlap),
    Probe("turn_missing", business_clients, _turn_missing),
    Probe("turn_ended_ahead", business_clients, _in_conversation(_newest_ended > _bc.done_seq)),
    Probe("turn_out_of_place", business_clients, _in_conversation(_out_of_place)),
    Probe("turn_lacks_messages", business_clients, _in_conversation(_lacks_messages)),
    Probe(
        "next_message_missing",
        business_clients,
        _in_conversation(_bc.last_seq > _bc.done_seq, ~_next_message, ~_next_turn),
    ),
    Probe("redo_wrong", business_clients, _in_conversation(_bc.redo != _redone)),
    Probe("never_due", business_clients, _in_conversation(_is_pending, _bc.ready_at.is_(None))),
    Probe("due_for_nothing", business_clients, _in_conversation(~_is_pending, _bc.ready_at.is_not(None))),
    Probe("due_too_late", business_clients, _in_conversation(_is_pending, _bc.ready_at > now() + FAR)),
    Probe(
        "overdue",
        business_clients,
        _in_conversation(_is_pending, _bc.ready_at < now() - LATE, _bc.held_by == HeldBy.ASSISTANT, ~_is_leased),
    ),
    Probe("turn_not_begun", business_clients, _in_conversation(_is_pending, IS_NOT_BEGUN)),
    Probe("lease_too_long", business_clients, _in_conversation(_bc.lease_until > now() + FAR)),
    Probe("half_a_lease", business_clients, _in_conversation(_bc.owner.is_(None) != _bc.lease_until.is_(None))),
)

# the WhatsApp outbox


def _in_outbox(*conditions: ColumnElement[bool]) -> Callable[[Scope], Select[Any]]:
    """Parts that belong to a turn."""
    return lambda scope: select(_o.id).join(turns, _t.id == _o.turn_id).where(scope(_o.id), *conditions)


#: Of parts, joined with their turns.
left_behind = and_(_o.state == PartState.READY, ~_is_unfinished)
still_leaving = and_(
    _o.state == PartState.SENDING,
    ~_is_unfinished,
    func.coalesce(_t.finished_at, _o.created_at) < now() - LEAVING,
    func.coalesce(_o.sending_at, _o.created_at) < now() - LEAVING,
)


_turns_conversation = select(_t.conversation_id).where(_t.id == _o.turn_id).scalar_subquery()


def _part_of_another_thread(scope: Scope) -> Select[Any]:
    return select(_o.id).where(scope(_o.id), _turns_conversation != _o.conversation_id)


def _part_missing(scope: Scope) -> Select[Any]:
    return (
        select(_o.turn_id)
        .where(scope(_o.turn_id))
        .group_by(_o.turn_id)
        .having(or_(func.min(_o.part) != 1, func.max(_o.part) != func.count()))
    )


_OUTBOX = (
    Probe("part_left_behind", outbound_messages, _in_outbox(left_behind)),
    Probe("part_still_leaving", outbound_messages, _in_outbox(still_leaving)),
    Probe("part_of_another_thread", outbound_messages, _part_of_another_thread),
    Probe("part_missing", turns, _part_missing),
)

# the Slack outbox


def _in_slack_outbox(*conditions: ColumnElement[bool]) -> Callable[[Scope], Select[Any]]:
    return lambda scope: select(_p.id).where(scope(_p.id), *conditions)


_own_business = select(_bc.business_id).where(_bc.id == _p.conversation_id).scalar_subquery()
own_lane = literal("c").concat(cast(_p.conversation_id, String))
business_lane = literal("b").concat(cast(_own_business, String))
#: Of posts. What Slack has is history.
in_wrong_lane = and_(
    _p.state.in_((PostState.OWED.value, PostState.POSTING.value, PostState.DEAD.value)),
    _p.lane != own_lane,
    _p.lane != business_lane,
)
held_for_nobody = and_(
    _p.state == PostState.POSTING,
    or_(_p.lease_until.is_(None), _p.lease_until > now() + FAR, _p.lease_until < now() - LATE),
)
put_off_too_far = and_(_is_open_post, _p.next_at > now() + FAR)
_others_message = exists().where(_i.id == _p.inbound_id, _i.conversation_id != _p.conversation_id)

_SLACK = (
    Probe("post_held_for_nobody", slack_posts, _in_slack_outbox(held_for_nobody)),
    Probe("post_put_off_too_far", slack_posts, _in_slack_outbox(put_off_too_far)),
    Probe("post_in_wrong_lane", slack_posts, _in_slack_outbox(in_wrong_lane)),
    Probe("post_of_another_thread", slack_posts, _in_slack_outbox(_others_message)),
)

# what belongs to nobody


def _client_of_nobody(scope: Scope) -> Select[Any]:
    return select(_c.id).where(scope(_c.id), ~exists().where(_bc.client_id == _c.id))


def _orphans(table: Table[Any], column: ColumnElement[Any], parent: Table[Any], scope: Scope) -> Select[Any]:
    there = parent.alias("parent")
    is_orphan = and_(column.is_not(None), ~exists().where(there.c.id == column))
    return select(table.c.id).where(scope(table.c.id), is_orphan)


#: What SQLite's foreign_key_check looks for, on both stores and in pages: PostgreSQL has no such check.
_ORPHANS = tuple(
    Probe("orphan", table, partial(_orphans, table, key.parent, key.column.table))
    for table in metadata.sorted_tables
    for key in sorted(table.foreign_keys, key=lambda key: key.parent.name)
)

PROBES = (*_CONVERSATIONS, *_OUTBOX, *_SLACK, Probe("client_of_nobody", clients, _client_of_nobody), *_ORPHANS)
