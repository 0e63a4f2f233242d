"""The caller waits, for a bounded time, for what becomes of the message. Waiting changes nothing."""

from __future__ import annotations

import time

from chatbotctl.core.errors import BusinessNotFound, StorageUnavailable
from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.core.storage import outcomes

#: Seconds between looks into the database while waiting, at least and at most: another process may run the turn, and it
#: tells nobody here. In between, a part of the time waited so far: an answer is heard a quarter later than it came at
#: worst, and ten seconds of waiting cost some twenty-five looks.
SOONEST_LOOK, LATEST_LOOK, LOOK_PART = 0.05, 1.0, 0.25


def await_outcome(services: Services, accepted: Accepted, *, wait_seconds: float, just_now: bool = False) -> Outcome:
    """What became of a message, or `queued` when that is not known within `wait_seconds` (or the process ends).

    Arguments:
        just_now: it was accepted this moment, so there is nothing to look for without waiting.

    `queued` too as soon as the database cannot be asked: the message is stored all the same, and whoever was told
    otherwise would send it again for nothing. Raises BusinessNotFound when the business was removed meanwhile, and the
    message with it.
    """
    if just_now and wait_seconds <= 0 and not accepted.duplicate and not accepted.held:
        return _queued(accepted)
    began = time.monotonic()
    with services.waiters.waiting_for(accepted.conversation_id) as turn_ended:
        while True:
            turn_ended.clear()
            try:
                outcome = _look(services, accepted)
            except StorageUnavailable:
                return _queued(accepted)
            waited = time.monotonic() - began
            left = wait_seconds - waited
            if outcome.result is not Result.QUEUED or left <= 0 or services.waiters.stopped:
                return outcome
            turn_ended.wait(min(left, LATEST_LOOK, max(SOONEST_LOOK, waited * LOOK_PART)))


def _queued(accepted: Accepted) -> Outcome:
    return Outcome(result=Result.QUEUED, message_sid=accepted.sid, conversation_id=accepted.conversation_id)


def _look(services: Services, accepted: Accepted) -> Outcome:
    with services.database.read() as tx:
        outcome = outcomes.of_message(tx, accepted.sid)
    if outcome is None:
        raise BusinessNotFound("The business was removed while its answer was awaited.")
    return outcome
