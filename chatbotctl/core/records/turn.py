"""A turn: one answer in the making, the claim on its conversation, and the parts of the reply on their way out."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Conversation
from chatbotctl.core.records.message import StoredMessage


class TurnState(enum.StrEnum):
    """How far a turn has come: open -> answered -> done | dead | withdrawn; dead -> open | answered | dropped."""

    OPEN = "open"
    #: What the customer is to read is stored.
    ANSWERED = "answered"
    DONE = "done"
    #: A dead letter: the assistant failed for good, or the reply did.
    DEAD = "dead"
    #: A reset, a take-over or a disabled business overtook it.
    WITHDRAWN = "withdrawn"
    #: A dead letter that an operator has settled: nothing more comes of it.
    DROPPED = "dropped"


class PartState(enum.StrEnum):
    """How far a part of a reply has come: ready -> sending -> sent | failed | unknown | withdrawn."""

    READY = "ready"
    #: On its way at this very moment, or when its process died.
    SENDING = "sending"
    #: WhatsApp (Twilio) took it.
    SENT = "sent"
    FAILED = "failed"
    #: It may have got through: never sent again unasked. `queue retry` has it looked for first.
    UNKNOWN = "unknown"
    #: Never to leave: a reset, a take-over or a disabled business overtook it.
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something did not come about: a stable code and one sentence without customer text."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTurn:
    """A turn that the assistant had no answer for, as people read it in a transcript."""

    #: The newest message that it covers.
    upto_seq: int
    #: One sentence without customer text.
    message: str
    #: When the line of our own was sent, or stored, that the customer read instead, as the transcript has it (seconds
    #: since 1970); None: there was none.
    apology_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's claim on a conversation; what the turn decides is written only while its fence counts.

    What Twilio took or refused is written all the same: that is true whoever has the conversation by then.
    """

    conversation_id: int
    fence: int
    #: An operator wants ended turns of it to be gone on with.
    redo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundPart:
    """One message of a reply on its way out."""

    id: int
    part: int
    sender: str
    recipient: str
    body: str
    author: Author
    state: PartState
    sid: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A reply that this very claim has just put into the outbox, its first part marked `sending` in the same commit."""

    parts: tuple[OutboundPart, ...]
    #: Monotonic time until which the first part may leave: as long as the lease lasts that the commit renewed.
    may_leave_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer in the making: the messages it covers and how far it has come."""

    id: int
    lease: Lease
    conversation: Conversation
    business: Business
    #: At least one, in order; all simulated or none.
    messages: tuple[StoredMessage, ...]
    #: The conversation's epoch when the turn was opened.
    epoch: int
    attempts: int = 0
    #: Another claim worked on it before and did not finish: the assistant may have been asked.
    resumed: bool = False
    #: It had ended as a dead letter, and an operator has it gone on with: newer messages may be answered already.
    redone: bool = False
    #: Parts up to this number are an earlier run's: nothing is done about them, and Slack was told of them.
    told_parts: int = 0
    #: Slack was told of this very reply when the turn ended before (that a person is needed, say).
    told_reply: bool = False
    #: What the customer is to read is stored: the assistant is never asked again.
    answered: bool = False
    #: What the assistant said; None for a line of our own.
    reply: str | None = None
    reply_translation: str | None = None
    needs_human: str | None = None
    #: Why the assistant gave no answer, once that is certain: the turn ends as a dead letter.
    failure: Failure | None = None
    #: What is to leave, where this claim has answered; None: an earlier one has, and the outbox knows.
    outgoing: Outgoing | None = None

    @property
    def text(self) -> str:
        """What the assistant is to read of the customer's messages, in the customer's words."""
        return "\n".join(message.words for message in self.messages if message.words)

    @property
    def simulated(self) -> bool:
        """Whether anything of it may never reach a real customer."""
        return self.messages[0].simulated

    @property
    def mirrored(self) -> bool:
        """Whether it goes to Slack."""
        return any(message.mirrored for message in self.messages)

    @property
    def upto_seq(self) -> int:
        """The newest message that it covers."""
        return self.messages[-1].seq


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that WhatsApp (Twilio) accepted."""

    sid: str
    #: Twilio's word: accepted, queued, sent...
    status: str
    #: Twilio's error code, of one that was found in its list and had failed by then.
    error_code: str | None = None
