"""What Slack is owed, in order. Only rows are written here, in the commit of what they tell of.

Nothing of Slack stands between the customer and the reply: `slack_poster` posts the rows at Slack's pace.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chatbotctl.core.addresses import named
from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.message import InboundMessage, kind_in_words
from chatbotctl.core.records.turn import Failure, OutboundPart, PartState, Turn
from chatbotctl.core.storage import outbox, slack_posts
from chatbotctl.core.storage.inbox import Taken
from chatbotctl.core.twilio_codes import sentence_of

#: What the titles of simulated messages and of their replies end in: nobody in Slack takes them for a customer's.
SIMULATED = " · simulated"
#: The title over what a reset, a disable or a new number kept from leaving while the turn ran.
WITHDRAWN = "The reply was withdrawn: the thread was reset, or the business disabled or given another number"


def owe_customer_line(
    services: Services, tx: Connection, business: Business, message: InboundMessage, taken: Taken
) -> None:
    """Owe the customer's message, with the number and the profile name, and in plain words what came without text."""
    if not message.mirrored or not services.is_mirrored(business):
        return
    who = named(message.profile_name, message.sender)
    lines = [message.body] if message.has_text else []
    if message.kind != "text":
        lines.append(f"[{kind_in_words(message.kind)}]")
        lines.extend(media.url for media in message.media)
    slack_posts.owe(
        tx,
        conversation_id=taken.conversation_id,
        lane=slack_posts.lane_of(business, taken.conversation_id, services.default_layout),
        kind="customer",
        title=who + SIMULATED if message.simulated else who,
        text="\n".join(lines),
        inbound_id=taken.inbound_id,
    )


def owe_reply(services: Services, tx: Connection, turn: Turn, failure: Failure | None) -> None:
    """Owe what was answered, and an alert where a person has to look; of a turn that was gone on with, what is new."""
    if not turn.mirrored or not services.is_mirrored(turn.business):
        return
    every_part = outbox.parts(tx, turn.id)
    parts = [part for part in every_part if part.part > turn.told_parts]
    sent = [part for part in parts if part.state is PartState.SENT]
    if sent:
        by_assistant = sent[0].author is Author.ASSISTANT
        what_left = _text_of(sent)
        is_whole = not any(part.author is Author.ASSISTANT for part in every_part[: turn.told_parts])
        _owe(
            services,
            tx,
            turn,
            kind="reply",
            title="Assistant" if by_assistant else "Automatic line",
            text=turn.reply if is_whole and turn.reply_translation and turn.reply else what_left,
            translation=what_left if is_whole and turn.reply_translation else None,
        )
    if failure is not None:
        not_left = [part for part in parts if part.state in (PartState.FAILED, PartState.UNKNOWN)]
        title = f"{_what_failed(turn, not_left)}: {failure.message}"
        _owe(services, tx, turn, kind="alert", title=title, text=_text_of(not_left))
    elif withdrawn := [part for part in parts if part.state is PartState.WITHDRAWN]:
        _owe(services, tx, turn, kind="alert", title=WITHDRAWN, text=_text_of(withdrawn))
    if turn.needs_human is not None and not turn.told_reply:
        _owe(services, tx, turn, kind="alert", title="A person is needed", text=turn.needs_human)


def owe_undelivered(
    services: Services, tx: Connection, business: Business, *, conversation_id: int, code: str | None, text: str
) -> None:
    """Owe an alert that WhatsApp could not deliver a message after all. `code`: Twilio's."""
    if not services.is_mirrored(business):
        return
    slack_posts.owe(
        tx,
        conversation_id=conversation_id,
        lane=slack_posts.lane_of(business, conversation_id, services.default_layout),
        kind="alert",
        title=f"The message was not delivered: {sentence_of(code)}",
        text=text,
    )


def _what_failed(turn: Turn, not_left: Sequence[OutboundPart]) -> str:
    if turn.failure is not None:
        return "The assistant could not answer"
    if any(part.state is PartState.UNKNOWN for part in not_left):
        # Whoever reads "not delivered" sends it again, and the customer has it twice.
        return "It is not known whether the reply was delivered"
    return "The reply was not delivered"


def _text_of(parts: Sequence[OutboundPart]) -> str:
    return "\n".join(part.body for part in parts)


def _owe(
    services: Services, tx: Connection, turn: Turn, *, kind: str, title: str, text: str, translation: str | None = None
) -> None:
    slack_posts.owe(
        tx,
        conversation_id=turn.conversation.id,
        lane=slack_posts.lane_of(turn.business, turn.conversation.id, services.default_layout),
        kind=kind,
        title=title + SIMULATED if turn.simulated else title,
        text=text,
        translation=translation,
    )
