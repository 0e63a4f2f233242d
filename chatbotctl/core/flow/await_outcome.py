"""Step 2: the caller waits, for a bounded time, for what becomes of the message. Waiting changes nothing."""

from __future__ import annotations

import time

from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.flow.services import Services
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.core.storage import turns

#: Seconds between looks into the database while waiting: another process may run the turn, and it tells nobody here.
LOOK_SECONDS = 1.0


def await_outcome(services: Services, accepted: Accepted, *, wait_seconds: float) -> Outcome:
    """What became of a message, or `queued` when that is not known within `wait_seconds` (or the process ends).

    Raises StorageUnavailable when the database cannot be asked (the message is stored all the same).
    """
    end = time.monotonic() + wait_seconds
    with services.waiters.waiting_for(accepted.conversation_id) as turn_ended:
        while True:
            turn_ended.clear()
            outcome = _look(services, accepted)
            left = end - time.monotonic()
            if outcome.result is not Result.QUEUED or left <= 0 or services.waiters.stopped:
                return outcome
            turn_ended.wait(min(left, LOOK_SECONDS))


def _look(services: Services, accepted: Accepted) -> Outcome:
    with services.database.read() as tx:
        outcome = turns.outcome(tx, accepted.sid)
    assert outcome is not None, "an accepted message is stored"
    return outcome
