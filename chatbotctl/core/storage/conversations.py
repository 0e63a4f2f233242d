"""Conversations (rows of business_clients): finding them, their provider thread, their transcript, their history."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, exists, func, or_, select, update

from chatbotctl.core.addresses import candidates, user_id
from chatbotctl.core.errors import ConversationNotFound
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Conversation, HeldBy, Line, ThreadSummary, TranscriptEntry
from chatbotctl.core.records.message import kind_in_words, message_in_words
from chatbotctl.core.records.turn import PartState, TurnState
from chatbotctl.core.storage import events
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.prepared import Prepared
from chatbotctl.core.storage.schema import (
    business_clients,
    businesses,
    clients,
    inbound_messages,
    outbound_messages,
    turns,
)

_bc, _i, _o, _t = business_clients.c, inbound_messages.c, outbound_messages.c, turns.c


#: Where a line stands among others: its time; within one tick of the clock the message that it is or answers, the
#: question before the answer; then as it was numbered.
_Place = tuple[float, int, int, int]


def _select() -> Select[Any]:
    return (
        select(
            business_clients,
            clients.c.address.label("client_address"),
            businesses.c.whatsapp_address.label("business_address"),
            businesses.c.name.label("business_name"),
        )
        .join(clients, clients.c.id == _bc.client_id)
        .join(businesses, businesses.c.id == _bc.business_id)
    )


_BY_ID = Prepared(_select().where(_bc.id == bindparam("conversation")))
_TOUCHED = Prepared(update(business_clients).where(_bc.id == bindparam("conversation")).values(last_message_at=now()))

_THREAD_MADE = Prepared(update(business_clients).where(_bc.id == bindparam("conversation")))
_NUMBER_KEPT = Prepared(
    select(businesses.c.id)
    .where(businesses.c.id == bindparam("business"), businesses.c.whatsapp_address == bindparam("number"))
    .with_for_update(read=True, key_share=True)
)
_ASKED_BEFORE = Prepared(
    select(_i.seq, _i.body, _i.translation, _i.kind, _i.received_at)
    .where(
        _i.conversation_id == bindparam("conversation"),
        _i.seq > bindparam("after"),
        _i.seq < bindparam("before"),
        ~_i.seq.between(bindparam("first"), bindparam("last")),
    )
    .order_by(_i.seq.desc())
    .limit(bindparam("most"))
)
_said_since = (
    select(_o.turn_id, _o.author, _o.body, _o.sent_at, _o.id)
    .add_columns(_t.reply, _t.reply_translation, _t.state, _t.upto_seq)
    .outerjoin(turns, _t.id == _o.turn_id)
    .where(
        _o.conversation_id == bindparam("conversation"),
        _o.state == PartState.SENT,
        _o.author.in_((Author.ASSISTANT, Author.OPERATOR)),
        # What answers an earlier message may have been said within the same tick of the clock.
        _o.created_at >= bindparam("since"),
        or_(_t.id.is_(None), _t.upto_seq >= bindparam("oldest")),
    )
    .order_by(_o.id.desc())
    .limit(bindparam("most"))
)
_came = (
    select(_i.received_at)
    .where(_i.conversation_id == bindparam("conversation"), _i.seq == bindparam("before"))
    .scalar_subquery()
)
_SAID = Prepared(_said_since)
_SAID_BEFORE = Prepared(
    _said_since.where(or_(_t.upto_seq < bindparam("before"), and_(_t.id.is_(None), _o.created_at < _came)))
)


def get(tx: Connection, conversation_id: int) -> Conversation:
    """The conversation with this id. Raises ConversationNotFound."""
    row = _BY_ID.first(tx, conversation=conversation_id)
    if row is None:
        raise ConversationNotFound(
            f"There is no thread {conversation_id}.", hint="`chatbotctl thread list` shows those that there are."
        )
    return _record(row)


def find(tx: Connection, business: Business, sender: str) -> Conversation:
    """The conversation of a business with the customer who writes from `sender`. Raises ConversationNotFound."""
    rows = tx.execute(_select().where(_bc.business_id == business.id, _is_customer(sender))).all()
    if not rows:
        raise ConversationNotFound(
            f"{business.name} has no thread with {sender}.",
            hint=f"`chatbotctl thread list --business {business.name}` shows those that there are.",
        )
    return _record(min(rows, key=lambda row: _distance(row, sender)))


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
    query = _summaries().order_by(_bc.last_message_at.desc().nulls_last(), _bc.id.desc()).limit(limit)
    if business is not None:
        query = query.where(_bc.business_id == business.id)
    if held:
        query = query.where(_bc.held_by == HeldBy.OPERATOR)
    if since is not None:
        query = query.where(_bc.last_message_at >= since)
    return [_summary(row) for row in tx.execute(query)]


def summary(tx: Connection, conversation_id: int) -> ThreadSummary:
    """One conversation as lists show it."""
    return _summary(tx.execute(_summaries().where(_bc.id == conversation_id)).one())


def of_customer(tx: Connection, sender: str) -> list[ThreadSummary]:
    """The conversations of all businesses with the customer who writes from `sender`, by the business's name."""
    found: dict[int, Row[Any]] = {}
    for row in tx.execute(_summaries().where(_is_customer(sender)).order_by(businesses.c.name, _bc.id)):
        closest = found.setdefault(row.business_id, row)
        if _distance(row, sender) < _distance(closest, sender):
            found[row.business_id] = row
    return [_summary(row) for row in found.values()]


def set_ai_thread(tx: Connection, conversation_id: int, ai_thread: str) -> None:
    """Remember the AI provider's handle."""
    _THREAD_MADE.run(tx, conversation=conversation_id, ai_thread=ai_thread)


def keeps_number(tx: Connection, conversation: Conversation) -> bool:
    """Whether the business still has the number that it had when `conversation` was read.

    For as long as this transaction lasts it keeps it: what moves the number, or removes the business, waits.
    Asked before `turns.check_fence`, for a business is locked before its conversations wherever both are.
    """
    kept = _NUMBER_KEPT.first(tx, business=conversation.business_id, number=conversation.business_address)
    return kept is not None


def another_has(tx: Connection, conversation: Conversation, ai_thread: str) -> bool:
    """Whether the provider's thread is known as another conversation's."""
    return bool(tx.scalar(select(exists().where(_bc.ai_thread == ai_thread, _bc.id != conversation.id))))


def set_language(tx: Connection, conversation_id: int, language: str) -> None:
    """Remember the customer's language as last detected."""
    tx.execute(update(business_clients).where(_bc.id == conversation_id).values(language=language))


def set_place(tx: Connection, conversation_id: int, channel: str | None, thread_ts: str | None) -> None:
    """Remember where in Slack the conversation stands."""
    tx.execute(
        update(business_clients)
        .where(_bc.id == conversation_id)
        .values(slack_channel=channel, slack_thread_ts=thread_ts)
    )


def reset(tx: Connection, conversation: Conversation) -> None:
    """Start anew with the assistant: what was said stays stored, but the assistant no longer sees it.

    A reply that is on its way when the reset comes does not leave any more (epoch + 1).
    """
    tx.execute(
        update(business_clients)
        .where(_bc.id == conversation.id)
        .values(ai_thread=None, reset_seq=_bc.last_seq, epoch=_bc.epoch + 1)
    )
    events.record(tx, conversation.id, "reset", detail={"seq": conversation.last_seq})


def transcript(
    tx: Connection,
    conversation: Conversation,
    *,
    before_seq: int,
    messages: int,
    translated: bool,
    without: tuple[int, int] | None = None,
) -> tuple[Line, ...]:
    """What the assistant may know of the past, oldest first: since the last reset, or less.

    System lines (apologies, "only text is read") are no part of it: the assistant did not say them.

    Arguments:
        before_seq: messages before this one, and what was said until then: what came after it is none of the past,
            not even where it is answered already.
        messages: the customer's last so many, with what was answered to them.
        translated: in the language that the assistant works in, as far as translations were made.
        without: the first and the last of the messages that are left out, because they are to be asked about.
    """
    if messages <= 0:
        return ()
    first, last = without or (0, -1)  # no message has a number below 1
    customers = _ASKED_BEFORE.all(
        tx,
        conversation=conversation.id,
        after=conversation.reset_seq,
        before=before_seq,
        first=first,
        last=last,
        most=messages,
    )
    if not customers:
        return ()
    lines: list[tuple[_Place, Line]] = []
    for row in customers:
        body = row.translation if translated and row.translation else row.body
        text = message_in_words(body, row.kind) or f"({kind_in_words(row.kind)} without any text.)"
        lines.append(((row.received_at, row.seq, 0, row.seq), Line(author=Author.CUSTOMER, text=text)))
    # A reply has a few parts at most; the bound keeps a huge history out of memory.
    oldest = customers[-1]
    before = before_seq if before_seq <= conversation.done_seq else None
    lines.extend(_said(tx, conversation, oldest=oldest, before=before, most=messages * 4, translated=translated))
    return tuple(line for _, line in sorted(lines, key=itemgetter(0)))


def history(tx: Connection, conversation_id: int, *, last: int | None) -> list[TranscriptEntry]:
    """Everything that was said in a conversation, oldest first; with `last`, only its end."""
    inbound = select(inbound_messages).where(_i.conversation_id == conversation_id)
    outbound = (
        select(outbound_messages, _t.upto_seq)
        .outerjoin(turns, _t.id == _o.turn_id)
        .where(_o.conversation_id == conversation_id)
    )
    newest_in = tx.execute(inbound.order_by(_i.received_at.desc(), _i.id.desc()).limit(last))
    newest_out = tx.execute(outbound.order_by(_o.created_at.desc(), _o.id.desc()).limit(last))
    entries = [((row.received_at, row.seq, 0, row.id), inbound_entry(row)) for row in newest_in]
    entries += [((row.created_at, _seq_of(row), 1, row.id), _outbound_entry(row)) for row in newest_out]
    entries.sort(key=itemgetter(0))
    return [entry for _, entry in (entries if last is None else entries[-last:])]


def touch(tx: Connection, conversation_id: int) -> None:
    """Something was said just now."""
    _TOUCHED.run(tx, conversation=conversation_id)


def _said(
    tx: Connection, conversation: Conversation, *, oldest: Any, before: int | None, most: int, translated: bool
) -> Iterator[tuple[_Place, Line]]:
    """What was said to the customer, for `transcript`; a translated reply as the assistant worded it, in one line.

    Arguments:
        oldest: only the replies to this message's row and newer ones, and what operators said since it came.
        before: only the replies to messages before this one, and what operators said before it came.
    """
    span = {"conversation": conversation.id, "since": oldest.received_at, "oldest": oldest.seq, "most": most}
    rows = _SAID.all(tx, **span) if before is None else _SAID_BEFORE.all(tx, **span, before=before)
    told: set[int | None] = set()
    for row in rows:
        text = row.body
        # Of a reply that broke off, the customer read only the parts that left.
        if translated and row.reply and row.reply_translation and row.state == TurnState.DONE:
            if row.turn_id in told:
                continue
            told.add(row.turn_id)
            text = row.reply
        yield (row.sent_at or 0.0, _seq_of(row), 1, row.id), Line(author=Author(row.author), text=text)


def _seq_of(row: Row[Any]) -> int:
    """The newest message that an outbound one answers; an operator's words come after all of the same moment."""
    return sys.maxsize if row.upto_seq is None else int(row.upto_seq)


def _is_customer(sender: str) -> ColumnElement[bool]:
    external = user_id(sender)
    is_known = clients.c.address.in_(candidates(sender))
    return is_known if external is None else or_(is_known, _bc.external_user_id == external)


def _distance(row: Row[Any], sender: str) -> int:
    """Which of a business's conversations a message from `sender` would join: by id, this very number, a variant."""
    if row.external_user_id is not None and row.external_user_id == user_id(sender):
        return 0
    return 1 if row.client_address == sender else 2


def _summaries() -> Select[Any]:
    counts = [
        select(func.count()).select_from(table).where(table.c.conversation_id == _bc.id).scalar_subquery()
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


def inbound_entry(row: Row[Any]) -> TranscriptEntry:
    """A whole row of inbound_messages as people read it."""
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
