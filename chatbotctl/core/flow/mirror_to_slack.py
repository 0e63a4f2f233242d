"""Step 9: what Slack is owed, in order. Only rows are written here, in the commit of what they tell of.

Nothing of Slack stands between the customer and the reply: `slack_poster` posts the rows at Slack's pace.
"""

from __future__ import annotations

from sqlalchemy import Connection

from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.message import NO_TEXT_KINDS, InboundMessage
from chatbotctl.core.records.turn import Failure, Turn
from chatbotctl.core.storage import outbox, slack_posts
from chatbotctl.core.storage.inbox import Taken

#: What the titles of simulated messages and of their replies end in: nobody in Slack takes them for a customer's.
SIMULATED = " · simulated"


def owe_customer_line(
    services: Services, tx: Connection, business: Business, message: InboundMessage, taken: Taken
) -> None:
    """Owe the customer's message, with the number and the profile name, and in plain words what came without text."""
    if not message.mirrored or not services.is_mirrored(business):
        return
    number = message.sender.removeprefix("whatsapp:")
    who = f"{message.profile_name} ({number})" if message.profile_name else number
    lines = [message.body] if message.has_text else []
    if message.kind != "text":
        lines.append(f"[{NO_TEXT_KINDS.get(message.kind, 'Something else than text')}]")
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
    """Owe what was answered, and an alert where a person has to look."""
    if not turn.mirrored or not services.is_mirrored(turn.business):
        return
    parts = outbox.parts(tx, turn.id)
    sent = [part for part in parts if part.state == "sent"]
    if sent:
        by_assistant = sent[0].author is Author.ASSISTANT
        what_left = "\n".join(part.body for part in sent)
        _owe(
            services,
            tx,
            turn,
            kind="reply",
            title="Assistant" if by_assistant else "Automatic line",
            text=turn.reply if turn.reply_translation and turn.reply else what_left,
            translation=what_left if turn.reply_translation else None,
        )
    if failure is not None:
        not_left = "\n".join(part.body for part in parts if part.state in ("failed", "unknown"))
        what = "The reply was not delivered" if turn.failure is None else "The assistant could not answer"
        _owe(services, tx, turn, kind="alert", title=f"{what}: {failure.message}", text=not_left)
    if turn.needs_human is not None:
        _owe(services, tx, turn, kind="alert", title="A person is needed", text=turn.needs_human)


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
