"""One part of a reply leaves by WhatsApp, at most once, as long as its conversation is still ours to answer.

Twilio's create has no idempotency key. Whenever it is not known whether Twilio took a part (no answer, a failure of
Twilio's own, or a process that died meanwhile), Twilio's list of messages is looked at before the part is sent again.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection

from chatbotctl.core.errors import LeaseLost, MessengerError, OutsideError
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.ports import Messenger
from chatbotctl.core.records.turn import OutboundPart, PartState, SentMessage, Turn
from chatbotctl.core.storage import events, outbox, turns

#: Seconds between looks into Twilio's list: at first, and at most.
LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.25, 1.0


class Overtaken(Exception):
    """A take-over, a reset or a disabled business has overtaken the part: it must not leave (again)."""


class _LeftMeanwhile(Exception):
    """Whoever had the conversation before us has just written down that Twilio took the part."""


def send_part(services: Services, turn: Turn, part: OutboundPart, messenger: Messenger) -> None:
    """Send a part that is `ready`, or go on with one that a dead worker left `sending`, and write down that it is sent.

    Raises Overtaken; LeaseLost when another worker has the conversation; MessengerError when it was not sent, or, with
    `unknown_outcome`, when nobody knows: then it stays `sending`.
    """
    twilio = services.settings.twilio
    attempt = _Attempt(services, turn, part, messenger)
    policy = RetryPolicy(
        attempts=twilio.attempts,
        deadline=(twilio.timeout_seconds + twilio.lookup_wait_seconds) * twilio.attempts,
        on_retry=lambda: services.metrics.retried("whatsapp"),
    )
    try:
        message = policy.run(lambda _: attempt.send(), on_failure=lambda error: _note_failure(part, error))
    except _LeftMeanwhile:
        return
    except MessengerError as error:
        # Of the last failure that is known; that an earlier one may have got through must not be forgotten.
        error.unknown_outcome = attempt.unsure
        raise
    reach("sent_not_recorded")

    def note(tx: Connection) -> None:
        # Without the fence: Twilio has it, and that is true whoever owns the conversation now.
        outbox.sent(tx, turn, part, message)
        detail = {"part": part.part, "author": part.author.value, "found": attempt.found}
        events.record(tx, turn.conversation.id, "sent", message_sid=message.sid, turn_id=turn.id, detail=detail)

    # A part that stays `sending` is looked for in Twilio's list, which takes a customer's time.
    keep_writing(services.database, note, seconds=services.settings.worker.lease_seconds)
    reach("recorded")


class _Attempt:
    """Sends one part, and remembers whether an earlier attempt may have got through.

    A worker that was frozen past its lease, or that another one has followed, must not send: so the lease is renewed,
    and fence and epoch are compared, in a transaction before every attempt, and an attempt that begins later than a
    lease's length after that does not happen.
    """

    def __init__(self, services: Services, turn: Turn, part: OutboundPart, messenger: Messenger) -> None:
        self._services = services
        self._turn = turn
        self._part = part
        self._messenger = messenger
        #: It may have got through.
        self.unsure = part.state is PartState.SENDING
        #: It had got through: Twilio's list had it.
        self.found = False

    def send(self) -> SentMessage:
        """Send once, unless it has left already. Raises as `send_part`."""
        if self.unsure and (message := self._look()) is not None:
            self.found = True
            return message
        self.unsure = False
        ours_until = time.monotonic() + self._services.settings.worker.lease_seconds
        with self._services.database.write() as tx:
            epoch = turns.keep(tx, self._turn.lease, self._services.settings.worker.lease_seconds)
            may_leave = outbox.start_sending(tx, self._part, epoch=epoch)
            left = not may_leave and outbox.has_left(tx, self._part)
        if not may_leave:
            raise _LeftMeanwhile if left else Overtaken
        reach("sending")
        if time.monotonic() >= ours_until:
            raise LeaseLost
        try:
            with self._services.metrics.sending():
                return self._messenger.send(
                    sender=self._part.sender, recipient=self._part.recipient, body=self._part.body
                )
        except MessengerError as error:
            self.unsure = self.unsure or error.unknown_outcome
            raise

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
