"""Step 8: the turn ends, in one commit with what Slack is owed of it, and whoever waits for it is told."""

from __future__ import annotations

from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.send_reply import Delivery, Sending
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.records import Turn
from chatbotctl.core.storage import outbox, turns

#: Seconds before a reply that Twilio could not take is tried again; doubled with each attempt.
SEND_BACKOFF = 5.0
#: Longest such wait in seconds.
LONGEST_SEND_BACKOFF = 300.0


def settle(services: Services, turn: Turn, delivery: Delivery) -> float | None:
    """End the turn, or put it off. Returns the seconds until the conversation is due again; None: nothing waits.

    Raises LeaseLost when another worker has the conversation.
    """
    if delivery.sending is Sending.LATER:
        wait: float = min(SEND_BACKOFF * 2**turn.attempts, LONGEST_SEND_BACKOFF)
        with services.database.write() as tx:
            turns.hold(tx, turn.lease)
            turns.postpone(tx, turn, wait, code=delivery.failure.code if delivery.failure else "")
        event("turn_postponed", level="warning", turn=turn.id, conversation=turn.conversation.id, seconds=wait)
        return wait
    state, failure = "done", turn.failure or delivery.failure
    if failure is not None:
        state = "dead"
    elif delivery.sending is Sending.WITHDRAWN:
        state = "withdrawn"
    with services.database.write() as tx:
        turns.hold(tx, turn.lease)
        due = turns.finish(tx, turn, state, failure)
        mirror_to_slack.owe_reply(services, tx, turn, outbox.parts(tx, turn.id), failure)
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
