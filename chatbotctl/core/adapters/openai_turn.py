"""What the OpenAI backends share about one turn: handles, models, whose words are whose, answers that are none.

Called by openai_responses, openai_chat and openai_threads. Knows records and errors only, never the SDK.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Literal

from chatbotctl.core.errors import AssistantError, AssistantNotUsable, ThreadGone
from chatbotctl.core.records.assistant import Answer, Usage
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Line

#: Handles that we make up for backends that keep no conversations.
LOCAL_PREFIX = "local_"
#: A conversation is seeded with as many of its last lines: `conversations.create` takes up to 20 items.
SEED_LINES = 20


def local_handle() -> str:
    """A unique `ai_thread` for a backend whose server keeps no conversations."""
    return f"{LOCAL_PREFIX}{uuid.uuid4().hex}"


def require_handle(ai_thread: str, prefix: str) -> None:
    """Raise ThreadGone, without asking anybody, for a handle that another backend made."""
    if not ai_thread.startswith(prefix):
        raise ThreadGone("The conversation was made by another kind of assistant.", reason="foreign_thread")


def require_model(business: Business, default_model: str | None) -> str:
    """The model to ask. Raises AssistantNotUsable when neither the business nor the install names one."""
    model = business.model or default_model
    if not model:
        raise AssistantNotUsable(
            "This business has no model to ask.",
            hint="Name one with `chatbotctl business update NAME --model MODEL`, or openai.model for all businesses.",
        )
    return model


def seed(transcript: Sequence[Line]) -> Sequence[Line]:
    """The lines to seed a new conversation with: the last 20 that say anything (an empty message is refused)."""
    return spoken(transcript)[-SEED_LINES:]


def spoken(transcript: Iterable[Line]) -> list[Line]:
    """The lines with any text."""
    return [line for line in transcript if line.text.strip()]


def customer_line(text: str) -> Line:
    """The customer's new text as the transcript's next line."""
    return Line(author=Author.CUSTOMER, text=text)


def role(line: Line) -> Literal["user", "assistant"]:
    """A line's role as models know it: whoever spoke for the business, the customer read one voice."""
    return "user" if line.author is Author.CUSTOMER else "assistant"


def text_or_none(value: object) -> str | None:
    """`value` if it is text with something in it: the SDK does not validate what a server answers."""
    return value if isinstance(value, str) and value else None


def count_or_none(value: object) -> int | None:
    """`value` if it is a count of tokens."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def declined(reason: str = "refusal") -> AssistantError:
    """The model or the provider's filter would not answer: asking the same again does not help."""
    return AssistantError("The model declined to answer.", reason=reason)


def cut_short(limit: str) -> AssistantError:
    """The answer broke off at a limit: half an answer is never sent, and the next one may be shorter."""
    return AssistantError("The model's answer was cut short.", reason=limit, retryable=True)


def answer(text: object, *, response_id: object, model: object, usage: Usage) -> Answer:
    """The answer, stripped. Raises AssistantError when there is no text: an empty reply is never sent."""
    stripped = text.strip() if isinstance(text, str) else ""
    if not stripped:
        raise AssistantError("The model's answer was empty.", reason="empty", retryable=True)
    return Answer(text=stripped, response_id=text_or_none(response_id), model=text_or_none(model), usage=usage)
