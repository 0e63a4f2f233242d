"""A conversation (operators call it a thread): who has it, what was said in it, and how lists show it.

Records travel between steps, storage and adapters. All are frozen; none knows a vendor or a table. Times are seconds
since 1970 UTC as float, read from the database's clock. Addresses are opaque text, as Twilio spells them
(`whatsapp:+15551234567` or, for customers who hide their number, `whatsapp:US.134912...`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Author(enum.StrEnum):
    """Who wrote a line of a conversation."""

    CUSTOMER = "customer"
    ASSISTANT = "assistant"
    OPERATOR = "operator"
    SYSTEM = "system"


class HeldBy(enum.StrEnum):
    """Who answers in a conversation at the moment."""

    ASSISTANT = "assistant"
    OPERATOR = "operator"


class Due(NamedTuple):
    """A conversation that a worker is to look at. The business, so that each gets its share."""

    conversation_id: int
    business_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One customer talking to one business (a row of business_clients). Operators call it a thread."""

    id: int
    business_id: int
    client_id: int
    #: The customer's first known address: the `from` of the cache key.
    client_address: str
    #: The business's address: the `to` of the cache key.
    business_address: str
    profile_name: str | None = None
    #: The customer's language as last detected.
    language: str | None = None
    #: The AI provider's handle; None: there was never one, or a reset asked for a new one.
    ai_thread: str | None = None
    #: Messages up to this seq are history that the assistant no longer sees (0: never reset).
    reset_seq: int = 0
    held_by: HeldBy = HeldBy.ASSISTANT
    epoch: int = 0
    last_seq: int = 0
    done_seq: int = 0
    slack_channel: str | None = None
    slack_thread_ts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a transcript as an assistant is given it."""

    author: Author
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedThread:
    """One entry of the thread cache: hash `{sender}_{receiver}` = {from, to, thread_id}."""

    sender: str
    receiver: str
    thread_id: str

    @property
    def key(self) -> str:
        """The key that it stands under."""
        return cache_key(self.sender, self.receiver)


def cache_key(sender: str, receiver: str) -> str:
    """The thread cache's key: readable, so that operators can HGETALL it."""
    return f"{sender}_{receiver}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadSummary:
    """A conversation as lists show it."""

    conversation: Conversation
    business_name: str
    #: Inbound and outbound together.
    messages: int
    last_message_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEntry:
    """One line of a conversation as people read it."""

    author: Author
    body: str
    sid: str | None
    #: received, or the outbound message's state or delivery status.
    status: str
    at: float
    #: What an inbound message was, when it was no text.
    kind: str = "text"
    translation: str | None = None
    simulated: bool = False
    error_code: str | None = None
    #: The inbound message's number in its conversation.
    seq: int | None = None
