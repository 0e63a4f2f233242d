"""Step 8: the turn ends, in one commit with what Slack is owed of it, and whoever waits for it is told."""

from __future__ import annotations

from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.send_reply import Delivery, Sending
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.records.turn import Failure, Turn
from chatbotctl.core.storage import outbox, turns

#: Seconds before a turn that could not be brought to its end is tried again; doubled with each attempt.
BACKOFF = 5.0
#: Longest such wait in seconds.
LONGEST_BACKOFF = 300.0


def settle(services: Services, turn: Turn, delivery: Delivery) -> float | None:
    """End the turn, or put it off. Returns the seconds until the conversation is due again; None: nothing waits.

    Raises LeaseLost when another worker has the conversation.
    """
    if delivery.sending is Sending.LATER:
        return _postpone(services, turn, delivery.failure.code if delivery.failure else "")
    state, failure = "done", turn.failure or delivery.failure
    if failure is not None:
        state = "dead"
    elif delivery.sending is Sending.WITHDRAWN:
        state = "withdrawn"
    return _end(services, turn, state, failure)


def settle_crashed(services: Services, turn: Turn) -> float | None:
    """Put off a turn that met a fault of our own, or end it as a dead letter when that keeps happening.

    Raises LeaseLost when another worker has the conversation.
    """
    if turn.attempts + 1 < services.settings.worker.attempts:
        return _postpone(services, turn, ChatbotError.code)
    return _end(services, turn, "dead", Failure(code=ChatbotError.code, message="The turn failed again and again."))


def _postpone(services: Services, turn: Turn, code: str) -> float:
    wait: float = min(BACKOFF * 2**turn.attempts, LONGEST_BACKOFF)
    with services.database.write() as tx:
        turns.hold(tx, turn.lease)
        turns.postpone(tx, turn, wait, code=code)
    event("turn_postponed", level="warning", turn=turn.id, conversation=turn.conversation.id, seconds=wait)
    return wait


def _end(services: Services, turn: Turn, state: str, failure: Failure | None) -> float | None:
    with services.database.write() as tx:
        turns.hold(tx, turn.lease)
        due = turns.finish(tx, turn, state, failure)
        if state != "done":
            outbox.close(tx, turn.id, "withdrawn" if state == "withdrawn" else "failed")
        mirror_to_slack.owe_reply(services, tx, turn, failure)
    services.waiters.ended(turn.conversation.id)
    event(
        "turn_ended",
        turn=turn.id,
        conversation=turn.conversation.id,
        business=turn.business.name,
        state=state,
        code=failure.code if failure else None,
    )
    return due
