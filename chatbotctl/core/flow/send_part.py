"""One part of a reply leaves by WhatsApp, at most once, as long as its conversation is still ours to answer.

Twilio's create has no idempotency key. Whenever it is not known whether Twilio took a part (no answer, a failure of
Twilio's own, or a process that died meanwhile), Twilio's list of messages is looked at before the part is sent again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection

from chatbotctl.core.errors import LeaseLost, MessengerError, OutsideError
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.ports import Messenger
from chatbotctl.core.records.delivery import FAILED
from chatbotctl.core.records.turn import OutboundPart, PartState, SentMessage, Turn
from chatbotctl.core.storage import events, outbox, turns

#: Seconds between looks into Twilio's list: at first, and at most.
LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.25, 1.0


class Overtaken(Exception):
    """A take-over, a reset or a disabled business has overtaken the part: it must not leave (again)."""


class _LeftMeanwhile(Exception):
    """Whoever had the conversation before us has just written down that Twilio took the part."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What Twilio took, and is not written down yet."""

    part: OutboundPart
    message: SentMessage
    #: Twilio's list had it: an earlier attempt had got through.
    found: bool

    def note(self, services: Services, tx: Connection, turn: Turn) -> None:
        """Write it down. Without the fence: Twilio has it, and that is true whoever owns the conversation now."""
        outbox.sent(tx, turn, self.part, self.message)
        detail = {"part": self.part.part, "author": self.part.author.value, "found": self.found}
        events.record(tx, turn.conversation.id, "sent", message_sid=self.message.sid, turn_id=turn.id, detail=detail)
        if self.message.status in FAILED:
            # Twilio told so when nobody here knew the message yet, and tells it once.
            code = self.message.error_code
            mirror_to_slack.owe_undelivered(
                services,
                tx,
                turn.business,
                conversation_id=turn.conversation.id,
                code=code,
                text=self.part.body,
            )


def send_part(
    services: Services, turn: Turn, part: OutboundPart, messenger: Messenger, *, may_leave_until: float | None
) -> Sent | None:
    """Send a part that is `ready`, or go on with one that a dead worker left `sending`.

    Arguments:
        may_leave_until: monotonic time, where the part has just been marked as `sending` for this very attempt.

    Returns what is to be written down; None when whoever had the conversation before has done so meanwhile.
    Raises Overtaken; LeaseLost when another worker has the conversation; MessengerError when it was not sent, or, with
    `unknown_outcome`, when nobody knows: then it stays `sending`.
    """
    twilio = services.settings.twilio
    attempt = _Attempt(services, turn, part, messenger, may_leave_until)
    policy = RetryPolicy(
        attempts=twilio.attempts,
        deadline=(twilio.timeout_seconds + twilio.lookup_wait_seconds) * twilio.attempts,
        on_retry=lambda: services.metrics.retried("whatsapp"),
    )
    try:
        with services.turnstile.outside():
            message = policy.run(lambda _: attempt.send(), on_failure=lambda error: _note_failure(part, error))
    except _LeftMeanwhile:
        return None
    except MessengerError as error:
        # Of the last failure that is known; that an earlier one may have got through must not be forgotten.
        error.unknown_outcome = attempt.unsure
        raise
    reach("sent_not_recorded")
    return Sent(part, message, attempt.found)


class _Attempt:
    """Sends one part, and remembers whether an earlier attempt may have got through.

    A worker that was frozen past its lease, or that another one has followed, must not send: so the lease is renewed,
    and fence and epoch are compared, in a transaction before every attempt, and an attempt that begins later than a
    lease's length after that does not happen.
    """

    def __init__(
        self,
        services: Services,
        turn: Turn,
        part: OutboundPart,
        messenger: Messenger,
        may_leave_until: float | None,
    ) -> None:
        self._services = services
        self._turn = turn
        self._part = part
        self._messenger = messenger
        #: Until when the next attempt may be made without asking the database again; None: not at all.
        self._may_leave_until = may_leave_until
        #: It may have got through.
        self.unsure = part.state is PartState.SENDING and may_leave_until is None
        #: It had got through: Twilio's list had it.
        self.found = False

    def send(self) -> SentMessage:
        """Send once, unless it has left already. Raises as `send_part`."""
        if self.unsure and (message := self._look()) is not None:
            self.found = True
            return message
        self.unsure = False
        may_leave_until, self._may_leave_until = self._may_leave_until, None
        if may_leave_until is None:
            may_leave_until = self._mark()
        reach("sending")
        if time.monotonic() >= may_leave_until:
            raise LeaseLost
        try:
            with self._services.metrics.sending():
                return self._messenger.send(
                    sender=self._part.sender, recipient=self._part.recipient, body=self._part.body
                )
        except MessengerError as error:
            self.unsure = self.unsure or error.unknown_outcome
            raise

    def _mark(self) -> float:
        """Mark the part as leaving, and renew the lease; returns the monotonic time until which it may leave."""
        lease_seconds = self._services.settings.worker.lease_seconds
        until = time.monotonic() + lease_seconds
        with self._services.database.write() as tx:
            epoch = turns.keep(tx, self._turn.lease, lease_seconds)
            may_leave = outbox.start_sending(tx, self._part, epoch=epoch)
            left = not may_leave and outbox.has_left(tx, self._part)
        if not may_leave:
            raise _LeftMeanwhile if left else Overtaken
        return until

    def _look(self) -> SentMessage | None:
        """The part in Twilio's list, which is given a moment to show it; None: it did not leave."""
        since = self._since()
        wait = LOOK_SECONDS
        end = time.monotonic() + self._services.settings.twilio.lookup_wait_seconds
        while True:
            listed = self._messenger.find(
                sender=self._part.sender, recipient=self._part.recipient, body=self._part.body, since=since
            )
            with self._services.database.read() as tx:
                known = outbox.known_sids(tx, [message.sid for message in listed])
            # The same words may have been said before: what the outbox knows of is another part.
            ours = next((message for message in listed if message.sid not in known), None)
            if ours is not None or time.monotonic() + wait > end:
                event("message_looked_up", part=self._part.part, found=ours is not None)
                return ours
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_LOOK_SECONDS)

    def _since(self) -> float:
        with self._services.database.read() as tx:
            return outbox.sending_since(tx, self._part)


def _note_failure(part: OutboundPart, error: OutsideError) -> None:
    event("send_failed", level="warning", part=part.part, reason=error.reason)
