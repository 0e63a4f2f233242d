"""The caller waits, for a bounded time, for what becomes of the message. Waiting changes nothing."""

from __future__ import annotations

import time

from chatbotctl.core.errors import BusinessNotFound, StorageUnavailable
from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.core.storage import turns

#: Seconds between looks into the database while waiting: another process may run the turn, and it tells nobody here.
LOOK_SECONDS = 1.0


def await_outcome(services: Services, accepted: Accepted, *, wait_seconds: float) -> Outcome:
    """What became of a message, or `queued` when that is not known within `wait_seconds` (or the process ends).

    `queued` too as soon as the database cannot be asked: the message is stored all the same, and whoever was told
    otherwise would send it again for nothing. Raises BusinessNotFound when the business was removed meanwhile, and the
    message with it.
    """
    end = time.monotonic() + wait_seconds
    with services.waiters.waiting_for(accepted.conversation_id) as turn_ended:
        while True:
            turn_ended.clear()
            try:
                outcome = _look(services, accepted)
            except StorageUnavailable:
                return Outcome(result=Result.QUEUED, message_sid=accepted.sid, conversation_id=accepted.conversation_id)
            left = end - time.monotonic()
            if outcome.result is not Result.QUEUED or left <= 0 or services.waiters.stopped:
                return outcome
            turn_ended.wait(min(left, LOOK_SECONDS))


def _look(services: Services, accepted: Accepted) -> Outcome:
    with services.database.read() as tx:
        outcome = turns.outcome(tx, accepted.sid)
    if outcome is None:
        raise BusinessNotFound("The business was removed while its answer was awaited.")
    return outcome
