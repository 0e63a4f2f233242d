"""The records that travel between steps, storage and adapters. All frozen; none knows a vendor or a table.

Times are seconds since 1970 UTC as float, read from the database's clock. Addresses are opaque text, as Twilio spells
them (`whatsapp:+15551234567` or, for customers who hide their number, `whatsapp:US.134912...`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Backend(enum.StrEnum):
    """Which kind of assistant answers for a business (docs/settings.md tells when to choose which)."""

    OPENAI = "openai"
    CHAT = "chat"
    THREADS = "threads"
    KNOWLEDGE = "knowledge"


class History(enum.StrEnum):
    """Where a conversation's past is kept for the `openai` backend."""

    PROVIDER = "provider"
    LOCAL = "local"


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


class Layout(enum.StrEnum):
    """How conversations stand in Slack: a channel each, or one channel per business with a Slack thread each."""

    CHANNEL = "channel"
    THREAD = "thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """One business that this install answers for. Holds no secret: credentials are looked up when they are needed."""

    id: int
    #: Unique short name that operators type.
    name: str
    #: The address that customers write to, as Twilio spells it.
    whatsapp_address: str
    is_disabled: bool = False
    disabled_reason: str | None = None
    backend: Backend = Backend.OPENAI
    #: None: the install's `openai.model`.
    model: str | None = None
    #: None: the install's `openai.base_url`.
    base_url: str | None = None
    #: Sent with every turn, so that a change counts from the next message on.
    instructions: str = ""
    #: Only for the `threads` backend: the provider's assistant id.
    assistant_id: str | None = None
    #: The provider's vector stores that file_search reads.
    vector_store_ids: tuple[str, ...] = ()
    history: History = History.PROVIDER
    #: The language the business works in (BCP 47, like `en` or `pt-BR`); None: no translation for it.
    language: str | None = None
    #: What a customer reads when the assistant failed for good; None: the install's line; "" sends nothing.
    apology: str | None = None
    #: Characters; None: `limits.max_message_chars`.
    max_message_chars: int | None = None
    #: None: the install's `slack.layout`.
    slack_layout: Layout | None = None
    #: The business's one channel in layout `thread`, once it exists.
    slack_channel: str | None = None
    #: Slack user ids (`U...`) that are invited to channels and mentioned in alerts.
    slack_user_ids: tuple[str, ...] = ()
    #: Providers that this business has its own credentials for.
    own_credentials: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """One attachment of an inbound message, as Twilio names it; the file itself is not fetched."""

    url: str
    content_type: str


#: A webhook's parameter that makes its message a simulated one; Twilio never sends it, and the signature covers it.
#: Its value is "slack" when the message is to be mirrored, anything else when not.
SIMULATED_PARAMETER = "ChatbotctlSimulated"


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
        text = self.body.strip()
        if not text or self.kind == "text":
            return text
        return f"{text}\n({NO_TEXT_KINDS.get(self.kind, 'Something else')} came with this message.)"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a transcript as an assistant is given it."""

    author: Author
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that one answer took, as the provider counted them; None: it did not say."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an assistant is asked in one turn."""

    business: Business
    #: The provider's conversation, made by `start_thread` of the same backend.
    ai_thread: str
    text: str
    #: The last turns of our own transcript, oldest first, without `text` itself (for backends that keep no history).
    transcript: tuple[Line, ...]
    #: Stable, meaningless id of the customer (a hash), for the provider's abuse monitoring.
    customer_hash: str
    #: Ours, recorded at the provider as metadata where it takes any.
    turn_id: int
    #: Seconds this one attempt may take.
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an assistant answered: never empty (an empty answer is an AssistantError)."""

    #: Markdown, as models write it.
    text: str
    response_id: str | None = None
    model: str | None = None
    usage: Usage = field(default_factory=Usage)
    #: The assistant says that a person is needed; the reason in plain words.
    needs_human: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that WhatsApp (Twilio) accepted."""

    sid: str
    #: Twilio's word: accepted, queued, sent...
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A translated text and the language that it was in."""

    text: str
    source_language: str | None


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
    """The thread cache's key, in the mission's format, so that operators can HGETALL it."""
    return f"{sender}_{receiver}"


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


class Result(enum.StrEnum):
    """How the handling of one message stands; the names are stable (`simulate --json`, logs, events)."""

    REPLIED = "replied"
    #: Stored; an operator holds the conversation, so the assistant stays quiet.
    HELD = "held"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeFile:
    """One of a business's knowledge files, without its content."""

    id: int
    name: str
    sha256: str
    #: Bytes.
    size: int
    added_at: float
    #: The provider's store for this business's files; None: none was made yet.
    provider_store_id: str | None = None
    #: The copy in that store; None: it was never uploaded.
    provider_file_id: str | None = None
    #: Of what was uploaded: an older one than `sha256` after a change.
    uploaded_sha256: str | None = None

    @property
    def is_uploaded(self) -> bool:
        """Whether the provider has a copy of the content as it is."""
        return self.provider_file_id is not None and self.uploaded_sha256 == self.sha256
