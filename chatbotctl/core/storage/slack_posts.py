"""The Slack outbox: what Slack is owed, in order per lane. Rows are added in the transaction of what they tell of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, or_, select, update

from chatbotctl.core.records.business import Business, Layout
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import slack_posts

_OPEN = ("owed", "posting")
_INSERT = insert(slack_posts)


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
    tx.execute(
        _INSERT,
        {
            "conversation_id": conversation_id,
            "lane": lane,
            "kind": kind,
            "title": title,
            "text": text,
            "translation": translation,
            "inbound_id": inbound_id,
        },
    )


def claim_next(
    tx: Connection, *, lease_seconds: float, busy_lanes: frozenset[str], lane: str | None = None
) -> OwedPost | None:
    """Claim the oldest post that is due and first in its lane; None when nothing is due.

    Arguments:
        busy_lanes: lanes that this process is not to post to yet (they were posted to a moment ago).
        lane: only this one.
    """
    p = slack_posts.c
    post_id = tx.scalar(_due(busy_lanes) if lane is None else _due(busy_lanes).where(p.lane == lane))
    if post_id is None:
        return None
    row = tx.execute(
        update(slack_posts)
        .where(p.id == post_id, p.state.in_(_OPEN), _is_free())
        .values(state="posting", lease_until=now() + lease_seconds, attempts=p.attempts + 1)
        .returning(*slack_posts.c)
    ).one_or_none()
    return None if row is None else _record(row)


def is_any_due(tx: Connection, busy_lanes: frozenset[str]) -> bool:
    """Whether `claim_next` would find something: a look that takes no write lock."""
    return tx.scalar(_due(busy_lanes)) is not None


def posted(tx: Connection, post: OwedPost, ts: str) -> None:
    """Slack has it."""
    _update(tx, post, state="posted", ts=ts, lease_until=None, error_code=None)


def put_off(tx: Connection, post: OwedPost, seconds: float, code: str) -> None:
    """Try again in `seconds`."""
    _update(tx, post, state="owed", next_at=now() + seconds, lease_until=None, error_code=code[:60])


def give_up(tx: Connection, post: OwedPost, code: str) -> None:
    """A dead letter: the lane goes on without it."""
    _update(tx, post, state="dead", lease_until=None, error_code=code[:60])


def next_lane(tx: Connection, *, conversation_id: int) -> str | None:
    """The lane of the oldest post of a conversation that is waiting; None: nothing is."""
    p = slack_posts.c
    query = select(p.lane).where(p.conversation_id == conversation_id, p.state.in_(_OPEN))
    return tx.scalar(query.order_by(p.id).limit(1))


def _due(busy_lanes: frozenset[str]) -> Select[int]:
    """The oldest post that is due and first in its lane."""
    p = slack_posts.c
    heads = select(func.min(p.id)).where(p.state.in_(_OPEN)).group_by(p.lane)
    query = select(p.id).where(p.id.in_(heads), p.next_at <= now(), _is_free()).order_by(p.id)
    return (query.where(p.lane.not_in(busy_lanes)) if busy_lanes else query).limit(1)


def _is_free() -> ColumnElement[bool]:
    p = slack_posts.c
    return or_(p.lease_until.is_(None), p.lease_until <= now())


def _update(tx: Connection, post: OwedPost, **values: Any) -> None:
    tx.execute(update(slack_posts).where(slack_posts.c.id == post.id).values(values))


def _record(row: Any) -> OwedPost:
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
    )
