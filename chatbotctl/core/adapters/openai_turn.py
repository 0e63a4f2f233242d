"""What the OpenAI backends share about one turn: models, whose words are whose, tokens, answers that are none.

Called by openai_responses, openai_chat and openai_threads. Knows records and errors only, never the SDK.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from chatbotctl.core.errors import AssistantError, AssistantNotUsable
from chatbotctl.core.records.assistant import Answer, Usage
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Line

#: A conversation is seeded with as many of its last lines: `conversations.create` takes up to 20 items.
SEED_LINES = 20


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


def usage_of(reported: object, *, asked: str, said: str) -> Usage:
    """The tokens of one answer, from what the server reported of them, if it did.

    The API names what was `asked` and what was `said`: `input` and `output`, or `prompt` and `completion`.
    """
    details = getattr(reported, f"{asked}_tokens_details", None)
    return Usage(
        input_tokens=_count(getattr(reported, f"{asked}_tokens", None)),
        cached_tokens=_count(getattr(details, "cached_tokens", None)),
        output_tokens=_count(getattr(reported, f"{said}_tokens", None)),
        total_tokens=_count(getattr(reported, "total_tokens", None)),
    )


def _count(value: object) -> int | None:
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


def behind_question(newest_first: Sequence[object], text: str) -> list[object]:
    """What stands in a conversation behind its newest customer message, oldest first, if that one says `text`."""
    for place, item in enumerate(newest_first):
        if getattr(item, "role", None) == "user":
            return list(reversed(newest_first[:place])) if _words(item) == text.strip() else []
    return []


def _words(message: object) -> str:
    """A customer's message as it is kept: its parts' text is a string (Responses) or has a value (Threads)."""
    content = getattr(message, "content", None)
    found = []
    for part in content if isinstance(content, list) else []:
        words = getattr(part, "text", None)
        found.append(words if isinstance(words, str) else getattr(words, "value", None))
    return "".join(words for words in found if isinstance(words, str)).strip()
