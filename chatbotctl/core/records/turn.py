"""A turn: one answer in the making, the claim on its conversation, and the parts of the reply on their way out."""

from __future__ import annotations

from dataclasses import dataclass

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Conversation
from chatbotctl.core.records.message import StoredMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something did not come about: a stable code and one sentence without customer text."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's claim on a conversation; every write of the turn checks the fence."""

    conversation_id: int
    fence: int


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
    #: What the customer is to read is stored: the assistant is never asked again.
    answered: bool = False
    #: What the assistant said; None for a line of our own.
    reply: str | None = None
    reply_translation: str | None = None
    needs_human: str | None = None
    #: Why the assistant gave no answer, once that is certain: the turn ends as a dead letter.
    failure: Failure | None = None

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
class OutboundPart:
    """One message of a reply on its way out."""

    id: int
    part: int
    sender: str
    recipient: str
    body: str
    author: Author
    #: ready, sending, sent, failed, unknown, withdrawn
    state: str
    sid: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that WhatsApp (Twilio) accepted."""

    sid: str
    #: Twilio's word: accepted, queued, sent...
    status: str
