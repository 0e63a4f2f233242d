"""The parts of the reply leave by WhatsApp, in order, each at most once; what is missing of a half-sent reply follows.

A part is marked `sending` in a commit before it leaves, with the fence and the epoch checked (the first in the one that
stored the reply), and `sent` in another after Twilio took it (the last in the one that ends the turn). A part found
`sending` was under way when its process died: send_part looks for it first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from chatbotctl.core.errors import ConfigurationError, MessengerError
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.send_part import Overtaken, Sent, send_part
from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.turn import Failure, OutboundPart, PartState, Turn
from chatbotctl.core.storage import events, outbox, turns


class Sending(enum.Enum):
    """How the sending of a reply ended."""

    DONE = enum.auto()
    #: A take-over, a reset or a disabled business overtook it: nothing (more) of it leaves.
    WITHDRAWN = enum.auto()
    #: Twilio cannot be reached: to be tried again later.
    LATER = enum.auto()
    #: It will not get through, or nobody can find out whether it did.
    FAILED = enum.auto()


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the sending ended, and why it failed."""

    sending: Sending
    failure: Failure | None = None
    #: Seconds that Twilio asked to be left alone, when it is to be tried again later.
    retry_after: float | None = None
    #: The last part, where all have left: that it has is written down with the turn's end.
    last: Sent | None = None


def send_reply(services: Services, turn: Turn) -> Delivery:
    """Send what of the turn's reply has not left yet. Raises LeaseLost when another worker has the conversation."""
    may_leave_until = None
    if turn.outgoing is not None:
        parts, may_leave_until = turn.outgoing.parts, turn.outgoing.may_leave_until
    else:
        parts = _left_over(services, turn)
    delivery = Delivery(Sending.DONE)
    for part in parts:
        if delivery.last is not None:
            _record(services, turn, delivery.last)
        delivery = _send_part(services, turn, part, may_leave_until)
        may_leave_until = None
        if delivery.sending is not Sending.DONE:
            break
    return delivery


def _left_over(services: Services, turn: Turn) -> tuple[OutboundPart, ...]:
    """What an earlier claim has put into the outbox and not sent, as far as is known."""
    with services.database.read() as tx:
        parts = outbox.parts(tx, turn.id)
    return tuple(part for part in parts if part.state is not PartState.SENT and part.part > turn.told_parts)


def _record(services: Services, turn: Turn, sent: Sent) -> None:
    # A part that stays `sending` is looked for in Twilio's list, which takes a customer's time.
    keep_writing(
        services.database, lambda tx: sent.note(services, tx, turn), seconds=services.settings.worker.lease_seconds
    )
    reach("recorded")


def _send_part(services: Services, turn: Turn, part: OutboundPart, may_leave_until: float | None) -> Delivery:
    if part.state not in (PartState.READY, PartState.SENDING):
        return _settled(part)
    try:
        # Simulated messages meet no other messenger than the console, whatever the business's settings say.
        messenger = services.console if turn.simulated else services.messenger_of(turn.business)
    except ConfigurationError as error:
        failure = Failure(code=error.code, message=error.message)
        may_have_left = part.state is PartState.SENDING and may_leave_until is None
        return _not_sent(services, turn, part, failure, error.code, unknown=may_have_left)
    try:
        sent = send_part(services, turn, part, messenger, may_leave_until=may_leave_until)
    except Overtaken:
        return Delivery(Sending.WITHDRAWN)
    except MessengerError as error:
        failure = Failure(code=error.code, message=error.message)
        reason = error.reason or error.code
        if error.retryable and turn.attempts + 1 < services.settings.worker.attempts:
            _later(services, turn, part, reason, unknown=error.unknown_outcome)
            return Delivery(Sending.LATER, failure, error.retry_after)
        return _not_sent(services, turn, part, failure, reason, unknown=error.unknown_outcome)
    return Delivery(Sending.DONE, last=sent)


def _settled(part: OutboundPart) -> Delivery:
    """What a part that will not leave (again) says of the turn; its process died before it could settle."""
    if part.state is PartState.WITHDRAWN:
        return Delivery(Sending.WITHDRAWN)
    if part.state is PartState.FAILED:
        message = f"WhatsApp (Twilio) did not take the reply ({part.error_code})."
        return Delivery(Sending.FAILED, Failure(code=MessengerError.code, message=message))
    message = "It is not known whether WhatsApp took the reply."
    return Delivery(Sending.FAILED, Failure(code=MessengerError.code, message=message))


def _later(services: Services, turn: Turn, part: OutboundPart, reason: str, *, unknown: bool) -> None:
    """Put the part off. One that may have got through stays `sending`: it will be looked for first."""
    with services.database.write() as tx:
        # Whoever took the conversation over decides about the part now: it must not become `ready` again.
        turns.check_fence(tx, turn.lease)
        outbox.not_sent(tx, part, PartState.SENDING if unknown else PartState.READY, reason)


def _not_sent(
    services: Services, turn: Turn, part: OutboundPart, failure: Failure, reason: str, *, unknown: bool
) -> Delivery:
    """Give the part up. `reason`: the vendor's own code, which operators look up (63016), beside our code."""
    state = PartState.UNKNOWN if unknown else PartState.FAILED
    with services.database.write() as tx:
        turns.check_fence(tx, turn.lease)
        outbox.not_sent(tx, part, state, reason)
        detail = {"part": part.part, "state": state, "code": failure.code, "reason": reason[:60]}
        events.record(tx, turn.conversation.id, "send_failed", turn_id=turn.id, detail=detail)
    return Delivery(Sending.FAILED, failure)
