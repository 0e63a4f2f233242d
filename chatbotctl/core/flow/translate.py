"""Optional: the customer's words for the assistant, and its answer for the customer.

Only with `translate.assistant`; what Slack shows is translated elsewhere, off the customer's path. A translation that
fails leaves the original: no message fails for it.
"""

from __future__ import annotations

from dataclasses import replace

from chatbotctl.core.errors import TranslationError
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.message import StoredMessage, message_in_words
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import conversations, inbox


def translate_question(services: Services, turn: Turn) -> str:
    """What the assistant is asked: the customer's words, in the business's language where translation is on."""
    language = services.assistant_language(turn.business)
    if language is None:
        return turn.text
    messages = [translated(services, message, language) for message in turn.messages]
    in_words = [message_in_words(message.translation or message.body, message.kind) for message in messages]
    return "\n".join(words for words in in_words if words)


def translate_answer(services: Services, turn: Turn, answer: Answer) -> str | None:
    """The answer in the customer's language; None when it needs no translation or none could be made."""
    language = services.assistant_language(turn.business)
    if services.translator is None or language is None:
        return None
    with services.database.read() as tx:
        customer_language = conversations.get(tx, turn.conversation.id).language
    if customer_language is None or same_language(customer_language, language):
        return None
    try:
        with services.turnstile.outside():
            return services.translator.translate(text=answer.text, target_language=customer_language).text
    except TranslationError as error:
        event("translation_failed", level="warning", reason=error.reason)
        return None


def translated(services: Services, message: StoredMessage, language: str) -> StoredMessage:
    """The message with its translation into `language`, made at most once and stored; unchanged when that fails.

    The language that it turns out to be in is from then on the customer's: replies are translated by it.
    """
    if services.translator is None or message.language is not None or not message.body.strip():
        return message
    try:
        with services.turnstile.outside():
            translation = services.translator.translate(text=message.body, target_language=language)
    except TranslationError as error:
        event("translation_failed", level="warning", reason=error.reason)
        return message
    source = translation.source_language or language
    text = None if same_language(source, language) else translation.text
    with services.database.write() as tx:
        inbox.set_translation(tx, message.id, text, source)
        conversations.set_language(tx, message.conversation_id, source)
    return replace(message, translation=text, language=source)


def same_language(one: str, other: str) -> bool:
    """Whether two BCP 47 tags are the same language (`pt` and `pt-BR` are: people read each other)."""
    return one.partition("-")[0].lower() == other.partition("-")[0].lower()
