"""What waits, runs and failed, as operators see it: one entry of the queue, and how much there is of everything."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from chatbotctl.core.records.conversation import Author, TranscriptEntry
from chatbotctl.core.records.turn import PartState


class Kind(enum.StrEnum):
    """What an entry is about."""

    #: An answer in the making, or one that failed.
    TURN = "turn"
    SLACK = "slack"
    #: A conversation whose newest messages have no turn yet.
    THREAD = "thread"


#: What stands before the number in an entry's id.
_LETTERS = {Kind.TURN: "", Kind.SLACK: "s", Kind.THREAD: "t"}


@dataclass(frozen=True, slots=True, order=True)
class EntryId:
    """How an operator names an entry: `12` a turn, `s12` a Slack post, `t12` the thread that has no turn yet."""

    kind: Kind
    number: int

    def __str__(self) -> str:
        return f"{_LETTERS[self.kind]}{self.number}"

    @classmethod
    def parse(cls, typed: str) -> EntryId | None:
        """The entry that `typed` names; None when it names none."""
        text = typed.strip().lower()
        for kind, letter in _LETTERS.items():
            digits = text.removeprefix(letter)
            if text.startswith(letter) and digits.isascii() and digits.isdecimal():
                # No database takes a larger number, not even to say that it has no such row.
                return cls(kind, int(digits)) if len(digits) < 19 else None
        return None


class EntryState(enum.StrEnum):
    """How an entry stands. All but the last three are what `queue list` shows."""

    #: For its burst window, for a worker, for what is before it, or for an operator to give the thread back.
    WAITING = "waiting"
    RUNNING = "running"
    #: It failed in passing and is tried again by itself.
    POSTPONED = "postponed"
    #: A dead letter: nothing more comes of it until an operator decides.
    DEAD = "dead"
    #: A dead letter that an operator has settled.
    DROPPED = "dropped"
    DONE = "done"
    #: A reset, a take-over or a disabled business overtook it.
    WITHDRAWN = "withdrawn"
    POSTED = "posted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the queue. Ages and waits are in seconds."""

    id: EntryId
    state: EntryState
    #: An operator holds the conversation: no worker touches it.
    held: bool
    business_name: str
    conversation_id: int
    customer: str
    #: When its first message came, or the post was owed (seconds since 1970).
    since: float
    age: float
    #: Times that it was tried, the present one included.
    attempts: int
    #: Until it is tried again, when it is postponed.
    next_in: float | None
    #: Our own code for the failure, and the vendor's.
    code: str | None
    reason: str | None
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One line of the timeline: what happened, and when (seconds since 1970)."""

    at: float
    kind: str
    message_sid: str | None
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPart:
    """A part of a reply as it stands, whether it has left or not."""

    part: int
    author: Author
    state: PartState
    sid: str | None
    delivery_status: str | None
    error_code: str | None
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """All about one entry; what does not apply to its kind is empty."""

    entry: Entry
    #: The customer's messages that it is about; of a thread without a turn, those that wait.
    messages: tuple[TranscriptEntry, ...] = ()
    #: What the assistant said, or what Slack is owed.
    text: str | None = None
    translation: str | None = None
    #: A Slack post's: who speaks.
    title: str | None = None
    needs_human: str | None = None
    model: str | None = None
    #: One sentence without customer text.
    error: str | None = None
    parts: tuple[ReplyPart, ...] = ()
    events: tuple[Happened, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """How much there is of everything, in one business or in all."""

    #: waiting, due, running, postponed, held -> conversations with something unanswered, each counted once; dead ->
    #: turns.
    turns: Mapping[str, int]
    #: owed, posting, dead -> posts.
    slack: Mapping[str, int]
    #: Seconds since the oldest message came that somebody is still to be answered for, and that no operator holds.
    oldest: float | None
    #: Seconds since the oldest post was owed that Slack does not have yet.
    oldest_post: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The whole queue in numbers."""

    total: Depths
    #: By the business's name; those where nothing waits, runs or failed are left out.
    businesses: Mapping[str, Depths]
    #: Worker -> conversations that it has a lease on.
    workers: Mapping[str, int]
