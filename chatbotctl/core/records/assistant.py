"""What an assistant or a translator is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Line


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
class Usage:
    """Tokens that one answer took, as the provider counted them; None: it did not say."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


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
class Translation:
    """A translated text and the language that it was in."""

    text: str
    source_language: str | None
