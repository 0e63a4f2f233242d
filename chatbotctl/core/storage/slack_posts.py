"""The Slack outbox: what Slack is owed, in order per lane. Rows are added in the transaction of what they tell of."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    Subquery,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from chatbotctl.core.records.business import Business, Layout
from chatbotctl.core.records.slack import OwedPost, PostState
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import slack_posts

_INSERT = Prepared(insert(slack_posts))
_p = slack_posts.c
_before = slack_posts.alias("before")


def _is_open(post: Any) -> ColumnElement[bool]:
    """Written out, not bound: SQLite uses the index of what is open only for a condition that it can read."""
    states = [PostState.OWED.value, PostState.POSTING.value]
    return cast("ColumnElement[bool]", post.state.in_(bindparam(None, states, expanding=True, literal_execute=True)))


def _is_free(post: Any) -> ColumnElement[bool]:
    return or_(post.lease_until.is_(None), post.lease_until <= now())


def _lane_heads() -> Subquery:
    """The first open post of each lane, found from lane to lane in the index: the posts behind it cost nothing."""
    lanes = select(func.min(_p.lane).label("lane")).where(_is_open(_p)).cte("lanes", recursive=True)
    following = select(func.min(_p.lane)).where(_is_open(_p), _p.lane > lanes.c.lane).scalar_subquery()
    lanes = lanes.union_all(select(following).where(lanes.c.lane.is_not(None)))
    head = select(func.min(_p.id)).where(_is_open(_p), _p.lane == lanes.c.lane).scalar_subquery()
    return select(head.label("head")).where(lanes.c.lane.is_not(None)).subquery("heads")


_heads = _lane_heads()
_CLAIM = (
    update(slack_posts)
    .where(_p.id == bindparam("post_id"), _is_open(_p), _p.next_at <= now(), _is_free(_p))
    .where(
        ~exists().where(_is_open(_before.c), _before.c.lane == _p.lane, _before.c.id < _p.id).correlate(slack_posts),
    )
    .values(
        state=PostState.POSTING,
        lease_until=now() + bindparam("lease", type_=Double),
        attempts=_p.attempts + 1,
    )
    .returning(*slack_posts.c, (now() - _p.created_at).label("age"))
)


def lane_of(business: Business, conversation_id: int, default_layout: Layout) -> str:
    """The lane of a conversation's posts: one per Slack channel, since order and pace are a channel's."""
    layout = business.slack_layout or default_layout
    return f"b{business.id}" if layout is Layout.THREAD else f"c{conversation_id}"


def layout_of(post: OwedPost) -> Layout:
    """The layout that a post's lane was chosen for."""
    return Layout.THREAD if post.lane.startswith("b") else Layout.CHANNEL


def owe(
    tx: Connection,
    *,
    conversation_id: int,
    lane: str,
    kind: str,
    title: str,
    text: str,
    translation: str | None = None,
    inbound_id: int | None = None,
) -> None:
    """Add a post to the end of its lane. `kind`: customer, reply, alert."""
    _INSERT.run(
        tx,
        conversation_id=conversation_id,
        lane=lane,
        kind=kind,
        title=title,
        text=text,
        translation=translation,
        inbound_id=inbound_id,
    )


def due(tx: Connection, *, limit: int, busy_lanes: frozenset[str] = frozenset()) -> list[int]:
    """The ids of posts that are due and first in their lane, oldest first. Takes no write lock.

    Arguments:
        busy_lanes: lanes that this process is not to post to yet (they were posted to a moment ago).
    """
    query = select(_p.id).join(_heads, _heads.c.head == _p.id).where(_p.next_at <= now(), _is_free(_p))
    if busy_lanes:
        query = query.where(_p.lane.not_in(busy_lanes))
    return list(tx.scalars(query.order_by(_p.id).limit(limit)))


def due_in(tx: Connection, lane: str) -> int | None:
    """The id of the first post of a lane, if it is due."""
    first = select(func.min(_p.id)).where(_is_open(_p), _p.lane == lane).scalar_subquery()
    return tx.scalar(select(_p.id).where(_p.id == first, _p.next_at <= now(), _is_free(_p)))


def claim(tx: Connection, post_id: int, *, lease_seconds: float) -> OwedPost | None:
    """Claim a post; None when it is not due, not first in its lane, or another poster's by now."""
    row = tx.execute(_CLAIM, {"post_id": post_id, "lease": lease_seconds}).one_or_none()
    return None if row is None else _record(row)


def is_held(tx: Connection, post: OwedPost) -> bool:
    """Whether the post is still its claimer's: not when its lease ran out and another poster has claimed it since."""
    return tx.scalar(select(_p.id).where(*_is_as_claimed(post))) is not None


def posted(tx: Connection, post: OwedPost, ts: str, *, pace: float = 0.0) -> None:
    """Slack has it, and that is true whoever has claimed it since.

    Arguments:
        pace: seconds for which the post behind it, if there is one already, is not due: a channel has one pace, however
            many processes post to it.
    """
    had = {"state": PostState.POSTED, "ts": ts, "lease_until": None, "error_code": None}
    tx.execute(update(slack_posts).where(_p.id == post.id).values(had))
    if pace > 0:
        behind = select(func.min(_p.id)).where(_is_open(_p), _p.lane == post.lane).scalar_subquery()
        tx.execute(update(slack_posts).where(_p.id == behind, _p.next_at < now() + pace).values(next_at=now() + pace))


def put_off(tx: Connection, post: OwedPost, seconds: float, code: str, *, is_attempt: bool = True) -> None:
    """Try again in `seconds`, if the post `is_held`. `is_attempt`: whether this attempt makes the next wait longer."""
    _update_held(
        tx,
        post,
        state=PostState.OWED,
        next_at=now() + seconds,
        lease_until=None,
        error_code=code[:60],
        attempts=post.attempts if is_attempt else post.attempts - 1,
    )


def give_up(tx: Connection, post: OwedPost, code: str) -> None:
    """A dead letter, if the post `is_held`: the lane goes on without it."""
    _update_held(tx, post, state=PostState.DEAD, lease_until=None, error_code=code[:60])


def waiting(tx: Connection) -> tuple[int, float]:
    """How many posts Slack is owed, and for how many seconds it has been owed the oldest (0: none is)."""
    # The oldest by number: the index of what is open holds that, and not when each post was owed.
    owed, oldest = tx.execute(select(func.count(), func.min(_p.id)).where(_is_open(_p))).one()
    if not owed:
        return 0, 0.0
    return owed, max(0.0, tx.scalar(select(now() - _p.created_at).where(_p.id == oldest)) or 0.0)


def next_lane(tx: Connection, *, conversation_id: int) -> str | None:
    """The lane of the oldest post of a conversation that is waiting; None: nothing is."""
    query = select(_p.lane).where(_p.conversation_id == conversation_id, _is_open(_p))
    return tx.scalar(query.order_by(_p.id).limit(1))


def _is_as_claimed(post: OwedPost) -> tuple[ColumnElement[bool], ...]:
    """The claim is a fence: whoever claims the post after this one finds more attempts."""
    return _p.id == post.id, _p.state == PostState.POSTING, _p.attempts == post.attempts


def _update_held(tx: Connection, post: OwedPost, **values: Any) -> None:
    tx.execute(update(slack_posts).where(*_is_as_claimed(post)).values(values))


def _record(row: Row[*tuple[Any, ...]]) -> OwedPost:
    return OwedPost(
        id=row.id,
        conversation_id=row.conversation_id,
        kind=row.kind,
        title=row.title,
        text=row.text,
        translation=row.translation,
        inbound_id=row.inbound_id,
        lane=row.lane,
        attempts=row.attempts,
        age=row.age,
    )
