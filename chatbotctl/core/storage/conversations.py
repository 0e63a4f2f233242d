"""Conversations (rows of business_clients): finding them, their provider thread, their transcript, their history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, or_, select, update

from chatbotctl.core.addresses import candidates, user_id
from chatbotctl.core.errors import ConversationNotFound
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Conversation, HeldBy, Line, ThreadSummary, TranscriptEntry
from chatbotctl.core.records.message import NO_TEXT_KINDS
from chatbotctl.core.storage import events
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import (
    business_clients,
    businesses,
    clients,
    inbound_messages,
    outbound_messages,
)


def _select() -> Select[Any]:
    return (
        select(
            business_clients,
            clients.c.address.label("client_address"),
            businesses.c.whatsapp_address.label("business_address"),
            businesses.c.name.label("business_name"),
        )
        .join(clients, clients.c.id == business_clients.c.client_id)
        .join(businesses, businesses.c.id == business_clients.c.business_id)
    )


_BY_ID = _select().where(business_clients.c.id == bindparam("id"))
_TOUCHED = update(business_clients).where(business_clients.c.id == bindparam("id_of")).values(last_message_at=now())


def get(tx: Connection, conversation_id: int) -> Conversation:
    """The conversation with this id. Raises ConversationNotFound."""
    row = tx.execute(_BY_ID, {"id": conversation_id}).one_or_none()
    if row is None:
        raise ConversationNotFound(
            f"There is no thread {conversation_id}.", hint="`chatbotctl thread list` shows those that there are."
        )
    return _record(row)


def find(tx: Connection, business: Business, sender: str) -> Conversation:
    """The conversation of a business with the customer who writes from `sender`. Raises ConversationNotFound."""
    rows = tx.execute(_select().where(business_clients.c.business_id == business.id, _is_customer(sender))).all()
    if not rows:
        raise ConversationNotFound(
            f"{business.name} has no thread with {sender}.",
            hint=f"`chatbotctl thread list --business {business.name}` shows those that there are.",
        )
    exact = [row for row in rows if row.client_address == sender]
    return _record((exact or rows)[0])


def listed(
    tx: Connection, *, business: Business | None, held: bool, since: float | None, limit: int
) -> list[ThreadSummary]:
    """Conversations, latest message first.

    Arguments:
        business: only this one's.
        held: only those that an operator holds.
        since: only those with a message since then (seconds since 1970).
        limit: at most so many.
    """
    bc = business_clients.c
    query = _summaries().order_by(bc.last_message_at.desc().nulls_last(), bc.id.desc()).limit(limit)
    if business is not None:
        query = query.where(bc.business_id == business.id)
    if held:
        query = query.where(bc.held_by == HeldBy.OPERATOR.value)
    if since is not None:
        query = query.where(bc.last_message_at >= since)
    return [_summary(row) for row in tx.execute(query)]


def summary(tx: Connection, conversation_id: int) -> ThreadSummary:
    """One conversation as lists show it."""
    return _summary(tx.execute(_summaries().where(business_clients.c.id == conversation_id)).one())


def of_customer(tx: Connection, sender: str) -> list[ThreadSummary]:
    """The conversations of all businesses with the customer who writes from `sender`, by the business's name."""
    found: dict[int, ThreadSummary] = {}
    for row in tx.execute(_summaries().where(_is_customer(sender)).order_by(businesses.c.name, business_clients.c.id)):
        # Of a business's conversations under variants of the number, the one with this very number is meant.
        if row.business_id not in found or row.client_address == sender:
            found[row.business_id] = _summary(row)
    return list(found.values())


def set_ai_thread(tx: Connection, conversation_id: int, ai_thread: str) -> None:
    """Remember the AI provider's handle."""
    tx.execute(update(business_clients).where(business_clients.c.id == conversation_id).values(ai_thread=ai_thread))


def set_language(tx: Connection, conversation_id: int, language: str) -> None:
    """Remember the customer's language as last detected."""
    tx.execute(update(business_clients).where(business_clients.c.id == conversation_id).values(language=language))


def set_place(tx: Connection, conversation_id: int, channel: str | None, thread_ts: str | None) -> None:
    """Remember where in Slack the conversation stands."""
    tx.execute(
        update(business_clients)
        .where(business_clients.c.id == conversation_id)
        .values(slack_channel=channel, slack_thread_ts=thread_ts)
    )


def reset(tx: Connection, conversation: Conversation) -> None:
    """Start anew with the assistant: what was said stays stored, but the assistant no longer sees it.

    A reply that is on its way when the reset comes does not leave any more (epoch + 1).
    """
    bc = business_clients.c
    tx.execute(
        update(business_clients)
        .where(bc.id == conversation.id)
        .values(ai_thread=None, reset_seq=bc.last_seq, epoch=bc.epoch + 1)
    )
    events.record(tx, conversation.id, "reset", detail={"seq": conversation.last_seq})


def transcript(tx: Connection, conversation: Conversation, *, before_seq: int, turns: int) -> tuple[Line, ...]:
    """What the assistant may know of the past: the last `turns` exchanges since the last reset, oldest first.

    System lines (apologies, "only text is read") are no part of it: the assistant did not say them.
    """
    if turns <= 0:
        return ()
    i, o = inbound_messages.c, outbound_messages.c
    inbound = (
        select(i.seq, i.body, i.translation, i.kind, i.received_at)
        .where(i.conversation_id == conversation.id, i.seq > conversation.reset_seq, i.seq < before_seq)
        .order_by(i.seq.desc())
        .limit(turns)
    )
    customers = tx.execute(inbound).all()
    if not customers:
        return ()
    #: Time; within one tick of the clock customers' lines first; then as they were numbered.
    lines: list[tuple[float, int, int, Line]] = []
    for row in customers:
        text = row.body if row.body.strip() else f"({NO_TEXT_KINDS.get(row.kind, 'Something')} without any text.)"
        lines.append((row.received_at, 0, row.seq, Line(author=Author.CUSTOMER, text=text)))
    outbound = (
        select(o.author, o.body, o.sent_at, o.id)
        .where(
            o.conversation_id == conversation.id,
            o.state == "sent",
            o.author.in_((Author.ASSISTANT.value, Author.OPERATOR.value)),
            o.created_at >= customers[-1].received_at,
        )
        .order_by(o.id.desc())
        # A reply has a few parts at most; the bound keeps a huge history out of memory.
        .limit(turns * 4)
    )
    lines.extend(
        (said.sent_at or 0.0, 1, said.id, Line(author=Author(said.author), text=said.body))
        for said in tx.execute(outbound)
    )
    return tuple(line for *_, line in sorted(lines, key=lambda entry: entry[:3]))


def history(tx: Connection, conversation_id: int, *, last: int | None) -> list[TranscriptEntry]:
    """Everything that was said in a conversation, oldest first; with `last`, only its end."""
    i, o = inbound_messages.c, outbound_messages.c
    inbound = select(inbound_messages).where(i.conversation_id == conversation_id)
    outbound = select(outbound_messages).where(o.conversation_id == conversation_id)
    newest_in = tx.execute(inbound.order_by(i.received_at.desc(), i.id.desc()).limit(last))
    newest_out = tx.execute(outbound.order_by(o.created_at.desc(), o.id.desc()).limit(last))
    # Within one tick of the clock a question stands before its answer.
    entries = [(row.received_at, 0, row.id, _inbound_entry(row)) for row in newest_in]
    entries += [(row.created_at, 1, row.id, _outbound_entry(row)) for row in newest_out]
    entries.sort(key=lambda entry: entry[:3])
    return [entry for *_, entry in (entries if last is None else entries[len(entries) - min(last, len(entries)) :])]


def touch(tx: Connection, conversation_id: int) -> None:
    """Something was said just now."""
    tx.execute(_TOUCHED, {"id_of": conversation_id})


def _is_customer(sender: str) -> ColumnElement[bool]:
    external = user_id(sender)
    is_known = clients.c.address.in_(candidates(sender))
    return is_known if external is None else or_(is_known, clients.c.external_user_id == external)


def _summaries() -> Select[Any]:
    counts = [
        select(func.count())
        .select_from(table)
        .where(table.c.conversation_id == business_clients.c.id)
        .scalar_subquery()
        for table in (inbound_messages, outbound_messages)
    ]
    return _select().add_columns((counts[0] + counts[1]).label("messages"))


def _summary(row: Row[Any]) -> ThreadSummary:
    return ThreadSummary(
        conversation=_record(row),
        business_name=row.business_name,
        messages=row.messages,
        last_message_at=row.last_message_at,
    )


def _record(row: Row[Any]) -> Conversation:
    return Conversation(
        id=row.id,
        business_id=row.business_id,
        client_id=row.client_id,
        client_address=row.client_address,
        business_address=row.business_address,
        profile_name=row.profile_name,
        language=row.language,
        ai_thread=row.ai_thread,
        reset_seq=row.reset_seq,
        held_by=HeldBy(row.held_by),
        epoch=row.epoch,
        last_seq=row.last_seq,
        done_seq=row.done_seq,
        slack_channel=row.slack_channel,
        slack_thread_ts=row.slack_thread_ts,
    )


def _inbound_entry(row: Row[Any]) -> TranscriptEntry:
    return TranscriptEntry(
        author=Author.CUSTOMER,
        body=row.body,
        sid=row.sid,
        status="received",
        at=row.received_at,
        kind=row.kind,
        translation=row.translation,
        simulated=row.simulated,
        seq=row.seq,
    )


def _outbound_entry(row: Row[Any]) -> TranscriptEntry:
    return TranscriptEntry(
        author=Author(row.author),
        body=row.body,
        sid=row.sid,
        status=row.delivery_status or row.state,
        at=row.sent_at or row.created_at,
        error_code=row.error_code,
    )
