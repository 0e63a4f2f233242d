"""The parts of the reply leave by WhatsApp, in order, each at most once.

A part is marked `sending` in a commit of its own before it leaves, with the fence and the epoch checked, and `sent` in
another after Twilio took it. A part found `sending` was under way when its process died: it may have got through, so it
is not sent again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sqlalchemy import Connection

from chatbotctl.core.errors import ConfigurationError, MessengerError, OutsideError
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.ports import Messenger
from chatbotctl.core.records.turn import Failure, OutboundPart, PartState, Turn
from chatbotctl.core.storage import events, outbox, turns


class Sending(enum.Enum):
    """How the sending of a reply ended."""

    DONE = enum.auto()
    #: A take-over, a reset or a disabled business overtook it: nothing (more) of it leaves.
    WITHDRAWN = enum.auto()
    #: Twilio cannot be reached: to be tried again later.
    LATER = enum.auto()
    #: It will not get through, or nobody knows whether it did.
    FAILED = enum.auto()


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the sending ended, and why it failed."""

    sending: Sending
    failure: Failure | None = None


def send_reply(services: Services, turn: Turn) -> Delivery:
    """Send what of the turn's reply has not left yet. Raises LeaseLost when another worker has the conversation."""
    with services.database.read() as tx:
        parts = outbox.parts(tx, turn.id)
    for part in parts:
        if part.state is PartState.SENT:
            continue
        delivery = _send_part(services, turn, part)
        if delivery.sending is not Sending.DONE:
            return delivery
    return Delivery(Sending.DONE)


def _send_part(services: Services, turn: Turn, part: OutboundPart) -> Delivery:
    if part.state is not PartState.READY:
        return _not_ready(services, turn, part)
    try:
        # Simulated messages meet no other messenger than the console, whatever the business's settings say.
        messenger = services.console if turn.simulated else services.messenger_of(turn.business)
    except ConfigurationError as error:
        failure = Failure(code=error.code, message=error.message)
        return _failed(services, turn, part, PartState.FAILED, failure, error.code)
    with services.database.write() as tx:
        epoch = turns.check_fence(tx, turn.lease)
        if not outbox.start_sending(tx, part, epoch=epoch):
            return Delivery(Sending.WITHDRAWN)
    try:
        _send(services, turn, part, messenger)
    except MessengerError as error:
        failure = Failure(code=error.code, message=error.message)
        reason = error.reason or error.code
        if error.unknown_outcome:
            return _failed(services, turn, part, PartState.UNKNOWN, failure, reason)
        if error.retryable:
            return _later(services, turn, part, failure, reason)
        return _failed(services, turn, part, PartState.FAILED, failure, reason)
    return Delivery(Sending.DONE)


def _send(services: Services, turn: Turn, part: OutboundPart, messenger: Messenger) -> None:
    twilio = services.settings.twilio
    policy = RetryPolicy(attempts=twilio.attempts, deadline=twilio.timeout_seconds * twilio.attempts)
    message = policy.run(
        lambda _: messenger.send(sender=part.sender, recipient=part.recipient, body=part.body),
        on_failure=lambda error: _note_failure(turn, part, error),
    )

    def note(tx: Connection) -> None:
        # Without the fence: Twilio has it, and that is true whoever owns the conversation now.
        outbox.sent(tx, turn, part, message)
        detail = {"part": part.part, "author": part.author.value}
        events.record(tx, turn.conversation.id, "sent", message_sid=message.sid, turn_id=turn.id, detail=detail)

    # A part that stays `sending` is taken for one whose fate is unknown: people would be alerted for nothing.
    keep_writing(services.database, note, seconds=services.settings.worker.lease_seconds)


def _not_ready(services: Services, turn: Turn, part: OutboundPart) -> Delivery:
    """What a part that is not `ready` says of the turn; its process died before it could settle."""
    if part.state is PartState.WITHDRAWN:
        return Delivery(Sending.WITHDRAWN)
    if part.state is PartState.FAILED:
        message = f"WhatsApp (Twilio) did not take the reply ({part.error_code})."
        return Delivery(Sending.FAILED, Failure(code=MessengerError.code, message=message))
    failure = Failure(code=MessengerError.code, message="It is not known whether WhatsApp took the reply.")
    if part.state is PartState.SENDING:
        return _failed(services, turn, part, PartState.UNKNOWN, failure, "interrupted")
    return Delivery(Sending.FAILED, failure)


def _later(services: Services, turn: Turn, part: OutboundPart, failure: Failure, reason: str) -> Delivery:
    if turn.attempts + 1 >= services.settings.worker.attempts:
        return _failed(services, turn, part, PartState.FAILED, failure, reason)
    with services.database.write() as tx:
        # Whoever took the conversation over found it `sending` and gave it up: it must not become `ready` again.
        turns.check_fence(tx, turn.lease)
        outbox.not_sent(tx, part, PartState.READY, reason)
    return Delivery(Sending.LATER, failure)


def _failed(
    services: Services, turn: Turn, part: OutboundPart, state: PartState, failure: Failure, reason: str
) -> Delivery:
    """`reason`: the vendor's own code, which operators look up (63016), beside our code for the kind of failure."""
    with services.database.write() as tx:
        outbox.not_sent(tx, part, state, reason)
        detail = {"part": part.part, "state": state, "code": failure.code, "reason": reason[:60]}
        events.record(tx, turn.conversation.id, "send_failed", turn_id=turn.id, detail=detail)
    return Delivery(Sending.FAILED, failure)


def _note_failure(turn: Turn, part: OutboundPart, error: OutsideError) -> None:
    event("send_failed", level="warning", turn=turn.id, part=part.part, reason=error.reason)
