"""Dead letters: an operator has one gone on with, or drops it. Nothing but these two ends a dead letter.

Each is one transaction over one letter, safe to be done by many at once: whoever comes second is told how the letter
stands. Parts that were sent are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from chatbotctl.core.errors import BusinessDisabled, ConflictError, NotFoundError
from chatbotctl.core.records.conversation import Due, HeldBy
from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import PartState, TurnState
from chatbotctl.core.storage import businesses, events
from chatbotctl.core.storage import turns as turn_rows
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.inbox import stored_message
from chatbotctl.core.storage.schema import business_clients, inbound_messages, outbound_messages, slack_posts, turns
from chatbotctl.core.storage.schema import events as event_rows

_bc, _e, _i, _o = business_clients.c, event_rows.c, inbound_messages.c, outbound_messages.c
_p, _t = slack_posts.c, turns.c

#: Messages that may have been sent to the customer since a part whose fate is unknown: of more, the look into Twilio's
#: list does not reach back to it (NEWEST in adapters/twilio_whatsapp.py), and it might be sent twice.
MOST_SINCE = 40

_LIST = "`chatbotctl queue list` shows what there is."


@dataclass(frozen=True, slots=True)
class Retried:
    """A turn that is gone on with."""

    due: Due
    #: An operator holds the conversation: it waits until that one gives it back.
    held: bool
    #: Whether the assistant is asked; otherwise the stored reply is sent on.
    asks: bool


def retry_turn(tx: Connection, turn_id: int) -> Retried:
    """Have a dead turn gone on with at once, before newer messages: its stored reply is sent on, or a new one made.

    Raises NotFoundError, ConflictError when it is not dead, cannot be gone on with any more, or BusinessDisabled.
    """
    turn, conversation = _dead_turn(tx, turn_id)
    business = businesses.get(tx, conversation.business_id)
    if business.is_disabled:
        raise BusinessDisabled(
            f"Turn {turn_id} is {business.name}'s, which is disabled: nothing of it may leave.",
            hint=f"`chatbotctl business enable {business.name}` first, or drop it.",
        )
    _require_same_customer(tx, turn)
    parts = list(tx.execute(select(outbound_messages).where(_o.turn_id == turn_id).order_by(_o.part)))
    asks = turn.reply is None and not (parts and _is_own_line(tx, turn))
    values: dict[str, Any] = {"attempts": 0, "next_at": None, "epoch": conversation.epoch}
    if asks:
        values |= {"state": TurnState.OPEN, "error_code": None, "error_message": None, "answered_at": None}
        # They stay what they are: what the customer read, or was to read, instead of an answer.
        values["told_parts"] = max((part.part for part in parts), default=0)
    else:
        _make_ready(tx, turn, parts, conversation.epoch, business.whatsapp_address)
        values |= {"state": TurnState.ANSWERED}
        values["told_parts"] = max((part.part for part in parts if part.state == PartState.SENT), default=0)
        if turn.reply is None:
            values |= {"error_code": None, "error_message": None}
    tx.execute(update(turns).where(_t.id == turn_id).values(values))
    turn_rows.redo(tx, turn.conversation_id)
    detail = {"asks": asks, "code": turn.error_code}
    events.record(tx, turn.conversation_id, "retried", turn_id=turn_id, detail=detail)
    due = Due(turn.conversation_id, conversation.business_id)
    return Retried(due, held=conversation.held_by == HeldBy.OPERATOR, asks=asks)


def drop_turn(tx: Connection, turn_id: int, reason: str) -> None:
    """Settle a dead turn: nothing more comes of it. Raises NotFoundError, or ConflictError when it is not dead."""
    turn, _ = _dead_turn(tx, turn_id)
    tx.execute(update(turns).where(_t.id == turn_id).values(state=TurnState.DROPPED))
    detail = {"reason": reason, "code": turn.error_code}
    events.record(tx, turn.conversation_id, "dropped", turn_id=turn_id, detail=detail)


def retry_post(tx: Connection, post_id: int) -> None:
    """Owe a dead Slack post again, at once and before whatever its channel is owed since.

    Raises NotFoundError, or ConflictError when it is not dead.
    """
    revived = {"state": PostState.OWED, "attempts": 0, "next_at": now(), "lease_until": None, "error_code": None}
    _change_dead_post(tx, post_id, "retried", revived, {})


def drop_post(tx: Connection, post_id: int, reason: str) -> None:
    """Settle a dead Slack post: it is never posted. Raises NotFoundError, or ConflictError when it is not dead."""
    _change_dead_post(tx, post_id, "dropped", {"state": PostState.DROPPED}, {"reason": reason})


def _dead_turn(tx: Connection, turn_id: int) -> tuple[Row[Any], Row[Any]]:
    """The turn and its conversation, whose row is locked. Raises NotFoundError, or ConflictError if it is not dead."""
    conversation_id = tx.scalar(select(_t.conversation_id).where(_t.id == turn_id))
    lock = select(business_clients).where(_bc.id == conversation_id).with_for_update()
    conversation: Row[Any] | None = tx.execute(lock).one_or_none() if conversation_id is not None else None
    # Only now: whoever had the conversation locked may have decided about the turn.
    turn: Row[Any] | None = tx.execute(select(turns).where(_t.id == turn_id)).one_or_none()
    if turn is None or conversation is None:
        raise NotFoundError(f"There is no turn {turn_id}.", hint=_LIST)
    if turn.state != TurnState.DEAD:
        raise ConflictError(f"Turn {turn_id} is no dead letter: {_IN_WORDS[TurnState(turn.state)]}.", hint=_LIST)
    return turn, conversation


_IN_WORDS = {
    TurnState.OPEN: "it is being worked on, or will be",
    TurnState.ANSWERED: "its reply is on its way",
    TurnState.DONE: "it is answered",
    TurnState.WITHDRAWN: "a reset, a take-over or a disabled business overtook it",
    TurnState.DROPPED: "it was dropped",
}


def _require_same_customer(tx: Connection, turn: Row[Any]) -> None:
    """Raise ConflictError when the number has passed to somebody else since: that one did not ask."""
    query = select(_e.detail).where(_e.conversation_id == turn.conversation_id, _e.kind == "new_owner")
    if any(detail.get("seq", 0) >= turn.upto_seq for detail in tx.scalars(query)):
        raise ConflictError(
            f"Turn {turn.id} is from before the customer's number passed to somebody else.",
            hint=f"`chatbotctl queue drop {turn.id} --reason TEXT` settles it.",
        )


def _is_own_line(tx: Connection, turn: Row[Any]) -> bool:
    """Whether what it says is the line that only text is read, and no apology."""
    query = select(inbound_messages).where(
        _i.conversation_id == turn.conversation_id, _i.seq.between(turn.first_seq, turn.upto_seq)
    )
    return not any(stored_message(row).words for row in tx.execute(query))


def _make_ready(tx: Connection, turn: Row[Any], parts: list[Row[Any]], epoch: int, address: str) -> None:
    """What did not leave is to leave now; whether what may have left did is looked up first (`sending`).

    From the business's present number. Raises ConflictError where looking would not find it: it may have left by
    another number, or long ago.
    """
    for part in parts:
        values: dict[str, Any] = {"epoch": epoch, "error_code": None}
        if part.state in (PartState.FAILED, PartState.WITHDRAWN):
            values |= {"state": PartState.READY, "sender": address}
        elif part.state in (PartState.UNKNOWN, PartState.SENDING):
            if part.sender != address or _sent_since(tx, part) > MOST_SINCE:
                raise ConflictError(
                    f"Nobody can find out any more whether turn {turn.id}'s reply left: it might be sent twice.",
                    hint=f"`chatbotctl queue drop {turn.id} --reason TEXT` settles it.",
                )
            values["state"] = PartState.SENDING
        else:
            continue
        tx.execute(update(outbound_messages).where(_o.id == part.id).values(values))


def _sent_since(tx: Connection, part: Row[Any]) -> int:
    newer = select(func.count()).where(
        _o.conversation_id == part.conversation_id, _o.id > part.id, _o.state == PartState.SENT
    )
    return tx.scalar(newer) or 0


def _change_dead_post(
    tx: Connection, post_id: int, kind: str, values: dict[str, Any], detail: dict[str, object]
) -> None:
    before = tx.execute(select(slack_posts).where(_p.id == post_id).with_for_update()).one_or_none()
    if before is None:
        raise NotFoundError(f"There is no Slack post s{post_id}.", hint=_LIST)
    if before.state != PostState.DEAD:
        raise ConflictError(f"Slack post s{post_id} is no dead letter: it is {before.state}.", hint=_LIST)
    tx.execute(update(slack_posts).where(_p.id == post_id).values(values))
    detail = {"post": post_id, "code": before.error_code, **detail}
    events.record(tx, before.conversation_id, kind, detail=detail)
