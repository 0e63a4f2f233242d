"""All about one entry of the queue: the messages, the reply and its parts, and what happened. Reads only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, or_, select

from chatbotctl.core.records.backlog import Details, Entry, EntryId, Happened, Kind, ReplyPart
from chatbotctl.core.records.conversation import Author, TranscriptEntry
from chatbotctl.core.records.turn import PartState
from chatbotctl.core.storage import backlog
from chatbotctl.core.storage.conversations import inbound_entry
from chatbotctl.core.storage.not_begun import NOT_BEGUN
from chatbotctl.core.storage.schema import (
    business_clients,
    events,
    inbound_messages,
    outbound_messages,
    slack_posts,
    turns,
)

#: Of a thread whose next turn cannot be begun.
_NOT_READABLE = "Something that its next turn needs cannot be read: `chatbotctl db check` says what helps."
#: Messages of a thread without a turn that are looked up.
MOST_WAITING = 100

_bc, _e, _i, _o = business_clients.c, events.c, inbound_messages.c, outbound_messages.c
_p, _t = slack_posts.c, turns.c


def find(tx: Connection, id_: EntryId) -> Details | None:
    """All about one entry; None when there is none."""
    entry = backlog.entry(tx, id_)
    if entry is None:
        return None
    if id_.kind is Kind.TURN:
        return _turn(tx, entry)
    return _post(tx, entry) if id_.kind is Kind.SLACK else _thread(tx, entry)


def _turn(tx: Connection, entry: Entry) -> Details:
    row = tx.execute(select(turns).where(_t.id == entry.id.number)).one()
    inbound = select(inbound_messages).where(
        _i.conversation_id == row.conversation_id, _i.seq.between(row.first_seq, row.upto_seq)
    )
    messages = _messages(tx, inbound)
    parts = tx.execute(select(outbound_messages).where(_o.turn_id == row.id).order_by(_o.part))
    sids = [message.sid for message in messages if message.sid is not None]
    timeline = select(events).where(
        _e.conversation_id == row.conversation_id, or_(_e.turn_id == row.id, _e.message_sid.in_(sids))
    )
    return Details(
        entry=entry,
        messages=messages,
        text=row.reply,
        translation=row.reply_translation,
        needs_human=row.needs_human,
        model=row.model,
        error=row.error_message,
        parts=tuple(
            ReplyPart(
                part=part.part,
                author=Author(part.author),
                state=PartState(part.state),
                sid=part.sid,
                delivery_status=part.delivery_status,
                error_code=part.error_code,
                body=part.body,
            )
            for part in parts
        ),
        events=_timeline(tx, timeline),
    )


def _post(tx: Connection, entry: Entry) -> Details:
    row = tx.execute(select(slack_posts).where(_p.id == entry.id.number)).one()
    decided = select(events).where(
        _e.conversation_id == row.conversation_id, _e.kind.in_(("retried", "dropped")), _e.turn_id.is_(None)
    )
    mine = tuple(each for each in _timeline(tx, decided) if each.detail.get("post") == row.id)
    return Details(entry=entry, title=row.title, text=row.text, translation=row.translation, events=mine)


def _thread(tx: Connection, entry: Entry) -> Details:
    if entry.code == NOT_BEGUN:
        # What cannot be read for a turn is not read here either: the timeline tells how often, and of what type it was.
        failed = select(events).where(_e.conversation_id == entry.conversation_id, _e.kind == NOT_BEGUN)
        return Details(entry=entry, error=_NOT_READABLE, events=_timeline(tx, failed))
    done = select(_bc.done_seq).where(_bc.id == entry.conversation_id).scalar_subquery()
    waiting = select(inbound_messages).where(_i.conversation_id == entry.conversation_id, _i.seq > done)
    return Details(entry=entry, messages=_messages(tx, waiting.limit(MOST_WAITING)))


def _messages(tx: Connection, query: Select[*tuple[Any, ...]]) -> tuple[TranscriptEntry, ...]:
    return tuple(inbound_entry(row) for row in tx.execute(query.order_by(_i.seq)))


def _timeline(tx: Connection, query: Select[*tuple[Any, ...]]) -> tuple[Happened, ...]:
    return tuple(
        Happened(at=row.at, kind=row.kind, message_sid=row.message_sid, detail=row.detail)
        for row in tx.execute(query.order_by(_e.id))
    )
