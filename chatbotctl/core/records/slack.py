"""What Slack is owed, and where it goes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PostState(enum.StrEnum):
    """How far a post has come: owed -> posting -> posted | dead; dead -> owed | dropped."""

    OWED = "owed"
    POSTING = "posting"
    POSTED = "posted"
    #: A dead letter: Slack refused it for good.
    DEAD = "dead"
    #: A dead letter that an operator has settled: it is never posted.
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in Slack a conversation stands."""

    channel: str
    #: The Slack thread's first message in layout `thread`; None in layout `channel`.
    thread_ts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One Slack post, unescaped: the mirror escapes. The text parts are customer or model text."""

    #: Fixed words of ours, shown in bold: who speaks.
    title: str
    #: The text itself; may be any Unicode at all.
    text: str
    #: A second text under it (the translation), with its own fixed title.
    translation: str | None = None
    #: True: it stands out and mentions the business's Slack users.
    alert: bool = False
    mention: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedPost:
    """One post that Slack is owed, as the poster claimed it."""

    id: int
    conversation_id: int
    kind: str
    title: str
    text: str
    translation: str | None
    inbound_id: int | None
    lane: str
    attempts: int
    #: Seconds since it was owed.
    age: float
