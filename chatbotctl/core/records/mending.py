"""A conversation's counters and turns as `db repair` finds them, and as they are to be."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFacts:
    """A turn, as far as its place among the messages goes."""

    id: int
    first_seq: int
    upto_seq: int
    #: Open or answered.
    unfinished: bool
    #: All its messages are there.
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationFacts:
    """What a conversation's row says, and what its messages and turns say."""

    last_seq: int
    done_seq: int
    reset_seq: int
    redo: int
    #: None: never; True: at a time that some worker lives to see.
    is_due: bool | None
    #: Whether owner and lease are what no worker writes.
    lease_is_wrong: bool
    #: A worker is at work on it.
    is_leased: bool
    #: The number of the newest message (0: there is none).
    newest_message: int
    #: The numbers of the messages above done_seq, in order.
    waiting: tuple[int, ...]
    #: In the order of their messages.
    turns: tuple[TurnFacts, ...]


class DueTime(enum.Enum):
    """What becomes of the time at which a conversation is due."""

    KEEP = enum.auto()
    NOW = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mending:
    """What a conversation's row is to say, and what becomes of its turns."""

    last_seq: int
    done_seq: int
    reset_seq: int
    redo: int
    due: DueTime
    clear_lease: bool
    #: Unfinished turns (their ids) that become dead letters.
    ended: tuple[int, ...]
    #: Messages (first, last) at or below done_seq that no turn covers: dead letters are made for them.
    uncovered: tuple[tuple[int, int], ...]
