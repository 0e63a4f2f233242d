"""What the customer is to read is put into the outbox, in the commit that ends the asking.

From that commit on the assistant is never asked again for this turn, whatever happens to the process. Its first part is
about to leave, so it is marked `sending` there and then, with the epoch compared, if it still may.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from chatbotctl.core.errors import AssistantError, ChatbotError
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow.ask_assistant import Asked
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.split_reply import split
from chatbotctl.core.flow.whatsapp_format import to_whatsapp
from chatbotctl.core.log import event
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.turn import Failure, Outgoing, PartState, Turn
from chatbotctl.core.storage import events, outbox, turns


def prepare_reply(services: Services, turn: Turn, asked: Asked, translation: str | None) -> Turn:
    """Store the assistant's answer, formatted for WhatsApp and split (after translation, so that the limits hold)."""
    answer = asked.answer
    parts = split(to_whatsapp(translation or answer.text))
    if not any(map(_is_seen, parts)):
        return prepare_apology(services, turn, AssistantError("The assistant's answer held nothing to send."))
    detail = {
        "backend": turn.business.backend.value,
        "thread": asked.thread.source,
        "model": answer.model,
        "seconds": round(asked.seconds, 3),
        "parts": len(parts),
        "needs_human": answer.needs_human is not None,
    }

    def store(tx: Connection) -> None:
        turns.store_answer(tx, turn, answer, translation)
        events.record(tx, turn.conversation.id, "answered", turn_id=turn.id, detail=detail)

    outgoing = _put_out(services, turn, parts, Author.ASSISTANT, store)
    reach("answered")
    return replace(
        turn,
        answered=True,
        reply=answer.text,
        reply_translation=translation,
        needs_human=answer.needs_human,
        outgoing=outgoing,
    )


def prepare_text_only(services: Services, turn: Turn) -> Turn:
    """Store the polite line that only text is read: the assistant is not asked about what it cannot see."""
    return _own_line(services, turn, [services.settings.replies.text_only], failure=None)


def prepare_apology(services: Services, turn: Turn, error: ChatbotError) -> Turn:
    """Store that the assistant failed for good, with the business's line for that (which may be none)."""
    event("turn_failed", level="error", code=error.code)
    business = turn.business
    line = services.settings.replies.apology if business.apology is None else business.apology
    # Whoever read it before the operator had the turn gone on with does not read it again.
    is_said = turn.told_parts > 0
    lines = [line] if line.strip() and not business.is_disabled and not is_said else []
    return _own_line(services, turn, lines, Failure(code=error.code, message=error.message))


def _is_seen(text: str) -> bool:
    """Whether a person sees anything of `text`: not of a zero-width space, say."""
    return any(unicodedata.category(char)[0] not in "CZ" for char in text)


def _own_line(services: Services, turn: Turn, lines: Sequence[str], failure: Failure | None) -> Turn:
    parts = [part for line in lines for part in split(line)]
    kind = "assistant_failed" if failure else "text_only"
    detail = {"code": failure.code} if failure else {}

    def store(tx: Connection) -> None:
        turns.store_own_line(tx, turn, failure)
        events.record(tx, turn.conversation.id, kind, turn_id=turn.id, detail=detail)

    outgoing = _put_out(services, turn, parts, Author.SYSTEM, store)
    return replace(turn, answered=True, failure=failure, outgoing=outgoing)


def _put_out(
    services: Services, turn: Turn, bodies: Sequence[str], author: Author, store: Callable[[Connection], None]
) -> Outgoing:
    """One commit: the fence is checked, `store` says what the turn came to, and the parts are owed to the customer.

    Raises LeaseLost when another worker has the conversation.
    """
    lease_seconds = services.settings.worker.lease_seconds
    may_leave_until = time.monotonic() + lease_seconds
    with services.database.write() as tx:
        epoch = turns.keep(tx, turn.lease, lease_seconds)
        store(tx)
        parts = outbox.add_reply(tx, turn, bodies, author)
        if parts:
            leaves = outbox.start_sending(tx, parts[0], epoch=epoch)
            parts[0] = replace(parts[0], state=PartState.SENDING if leaves else PartState.WITHDRAWN)
    return Outgoing(parts=tuple(parts), may_leave_until=may_leave_until)
