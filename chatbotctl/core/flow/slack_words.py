"""What an owed post says once it leaves: its text, and its translation for the people who read it in Slack.

Called by slack_poster, so that translating for Slack never keeps a customer waiting.
"""

from __future__ import annotations

from chatbotctl.core.errors import TranslationError
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.slack_place import Standing
from chatbotctl.core.flow.translate import same_language, translated
from chatbotctl.core.log import event
from chatbotctl.core.records.slack import OwedPost, Post
from chatbotctl.core.storage import inbox

#: What a title ends in when the translation failed: people see that there should be one.
NOT_TRANSLATED = " · not translated"


def post_of(services: Services, owed: OwedPost, standing: Standing) -> Post:
    """The post as Slack is to show it. Raises StorageUnavailable."""
    language = services.working_language(standing.business)
    title, translation = owed.title, owed.translation
    if language is not None and translation is None:
        if owed.inbound_id is not None:
            title, translation = _customer_line(services, owed, owed.inbound_id, language)
        elif owed.kind == "reply":
            title, translation = _reply(services, owed, standing, language)
    is_alert = owed.kind == "alert"
    return Post(
        title=title,
        text=owed.text,
        translation=translation,
        alert=is_alert,
        mention=standing.business.slack_user_ids if is_alert else (),
    )


def _customer_line(services: Services, owed: OwedPost, inbound_id: int, language: str) -> tuple[str, str | None]:
    with services.database.read() as tx:
        message = inbox.get(tx, inbound_id)
    if not message.body.strip():
        return owed.title, None
    done = translated(services, message, language)
    return (owed.title if done.language else owed.title + NOT_TRANSLATED), done.translation


def _reply(services: Services, owed: OwedPost, standing: Standing, language: str) -> tuple[str, str | None]:
    """What left untranslated, in the people's language, if the customer speaks another one."""
    spoken = standing.conversation.language
    if services.translator is None or spoken is None or same_language(spoken, language):
        return owed.title, None
    try:
        translation = services.translator.translate(text=owed.text, target_language=language)
    except TranslationError as error:
        event("translation_failed", level="warning", reason=error.reason)
        return owed.title + NOT_TRANSLATED, None
    source = translation.source_language
    return owed.title, None if source and same_language(source, language) else translation.text
