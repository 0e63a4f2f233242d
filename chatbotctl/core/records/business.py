"""A business that this install answers for, and how it wants to be answered for."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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

    @property
    def tells_history(self) -> bool:
        """Whether each question has to carry the transcript, because its server keeps no conversation."""
        return self.backend is Backend.CHAT or (self.backend is Backend.OPENAI and self.history is History.LOCAL)


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
