"""A customer's message, from the webhook to what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

#: A webhook's parameter that makes its message a simulated one; Twilio never sends it, and the signature covers it.
#: Its value is "slack" when the message is to be mirrored, anything else when not.
SIMULATED_PARAMETER = "ChatbotctlSimulated"


#: Kind of message -> how it is named to people and assistants.
NO_TEXT_KINDS = {
    "image": "An image",
    "audio": "A voice note",
    "video": "A video",
    "document": "A document",
    "sticker": "A sticker",
    "location": "A location",
    "contact": "A contact card",
    "button": "A button press",
    "empty": "An empty message",
}


def kind_in_words(kind: str) -> str:
    """How a kind of message other than text is named to people and assistants."""
    return NO_TEXT_KINDS.get(kind, "Something else than text")


def message_in_words(body: str, kind: str) -> str:
    """A message's text, if any, with a word about what came with it."""
    text = body.strip()
    if not text or kind == "text":
        return text
    return f"{text}\n({kind_in_words(kind)} came with this message.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One attachment of an inbound message, as Twilio names it; the file itself is not fetched."""

    url: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """A customer's message as it came in, before it is stored."""

    sid: str
    sender: str
    receiver: str
    body: str
    #: text, or what else it holds: one of NO_TEXT_KINDS.
    kind: str = "text"
    profile_name: str | None = None
    #: Twilio's ExternalUserId: the customer's identity when the number is hidden (also sent beside a number).
    external_user_id: str | None = None
    media: tuple[Media, ...] = ()
    #: Every parameter of the request, as received.
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: True: nothing of it may ever reach a real customer.
    simulated: bool = False
    #: False: nothing of it goes to Slack.
    mirrored: bool = True

    @property
    def has_text(self) -> bool:
        """Whether there is anything for an assistant to read."""
        return bool(self.body.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """An inbound message as it stands in the inbox."""

    id: int
    sid: str
    conversation_id: int
    seq: int
    sender: str
    body: str
    kind: str
    simulated: bool
    mirrored: bool
    #: The body in the business's language, once it was translated.
    translation: str | None
    #: The language the customer wrote in, once it was detected.
    language: str | None

    @property
    def words(self) -> str:
        """The text, if any, with a word about what came with it."""
        return message_in_words(self.body, self.kind)


class Result(enum.StrEnum):
    """How the handling of one message stands; the names are stable (`simulate --json`, logs, events)."""

    REPLIED = "replied"
    #: Stored; an operator holds the conversation, so the assistant stays quiet.
    HELD = "held"
    #: Stored; a reset, a take-over or a disabled business overtook the answer.
    WITHDRAWN = "withdrawn"
    #: Stored; the answer is still being worked on.
    QUEUED = "queued"
    #: The turn is a dead letter; `code` and `message` say why.
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one message: the same for its first copy and for every duplicate."""

    result: Result
    message_sid: str
    conversation_id: int
    #: The error's code when result is `failed`.
    code: str | None = None
    #: One sentence without customer text, when result is `failed`.
    message: str | None = None
