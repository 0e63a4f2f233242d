"""The turn ends, in one commit with what Slack is owed of it, and whoever waits for it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from chatbotctl.core.errors import ChatbotError, LeaseLost, StorageUnavailable
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.retry_policy import PutOff
from chatbotctl.core.flow.send_part import Sent
from chatbotctl.core.flow.send_reply import Delivery, Sending
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.records.turn import Failure, PartState, Turn, TurnState
from chatbotctl.core.storage import outbox, turns
from chatbotctl.core.storage.database_faults import UnreadableRow

T = TypeVar("T")

#: When a turn that could not be brought to its end is gone on with.
LATER = PutOff(first=5.0, longest=300.0)


def settle(services: Services, turn: Turn, delivery: Delivery) -> float | None:
    """End the turn, or put it off. Returns the seconds until the conversation is due again; None: nothing waits.

    Raises LeaseLost when another worker has the conversation.
    """
    if delivery.sending is Sending.LATER:
        return _postpone(
            services, turn, delivery.failure.code if delivery.failure else "", at_least=delivery.retry_after or 0.0
        )
    state, failure = TurnState.DONE, turn.failure or delivery.failure
    if failure is not None:
        state = TurnState.DEAD
    elif delivery.sending is Sending.WITHDRAWN:
        state = TurnState.WITHDRAWN
    return _end(services, turn, state, failure, delivery.last)


def settle_crashed(services: Services, turn: Turn) -> float | None:
    """Put off a turn that met a fault of our own, or end it as a dead letter when that keeps happening.

    Raises LeaseLost when another worker has the conversation.
    """
    if turn.attempts + 1 < services.settings.worker.attempts:
        return _postpone(services, turn, ChatbotError.code)
    failure = Failure(code=ChatbotError.code, message="The turn failed again and again.")
    return _end(services, turn, TurnState.DEAD, failure)


def _postpone(services: Services, turn: Turn, code: str, *, at_least: float = 0.0) -> float:
    wait = max(LATER.backoff(turn.attempts + 1), LATER.asked(at_least))
    with services.database.write() as tx:
        turns.check_fence(tx, turn.lease)
        turns.postpone(tx, turn, wait, code=code)
    services.metrics.retried("turn")
    event("turn_postponed", level="warning", seconds=round(wait, 1), code=code)
    return wait


def _end(
    services: Services, turn: Turn, state: TurnState, failure: Failure | None, last: Sent | None = None
) -> float | None:
    """End the turn, in the commit that writes down that its last part has left, if one has.

    That it has is written down all the same when another worker has the conversation: LeaseLost is raised after it.
    """
    attempted = False

    def write(tx: Connection) -> tuple[bool, float | None]:
        nonlocal attempted
        # A commit whose answer got lost: nothing of it is done twice, and whether more is due is looked up. An end that
        # is another worker's does not tell what we know of the last part.
        was_written = attempted and turns.has_ended(tx, turn) and (last is None or outbox.has_left(tx, last.part))
        attempted = True
        if was_written:
            return True, 0.0
        is_ours = turns.holds(tx, turn.lease)
        if last is not None:
            last.note(services, tx, turn)
        return is_ours, _write_end(services, tx, turn, state, failure) if is_ours else None

    if last is None:
        # An end that a power cut undoes is found again: all parts are known to have left, or not to.
        with services.database.write(durable=False) as tx:
            is_ours, due = write(tx)
    else:
        is_ours, due = _keep_ending(services, turn, last, write)
        reach("recorded")
    if not is_ours:
        raise LeaseLost
    services.waiters.ended(turn.conversation.id)
    code = failure.code if failure else None
    services.metrics.turn_ended(turn.business.name, state.value, code)
    event("turn_ended", level="error" if state is TurnState.DEAD else "info", state=state.value, code=code)
    return due


def _keep_ending(services: Services, turn: Turn, last: Sent, write: Callable[[Connection], T]) -> T:
    """`write`, kept up; where it meets a fault of our own, that the last part has left is written down without it.

    The turn is gone on with then, and a part that is `sending` for as long as that takes may not be found any more in
    Twilio's list: it would be sent again.
    """
    is_at_fault = True
    try:
        done = keep_writing(services.database, write, seconds=services.settings.worker.lease_seconds)
        is_at_fault = False
    except StorageUnavailable as error:
        is_at_fault = isinstance(error, UnreadableRow)
        raise
    finally:
        if is_at_fault:
            with services.database.write() as tx:
                last.note(services, tx, turn)
    return done


def _write_end(
    services: Services, tx: Connection, turn: Turn, state: TurnState, failure: Failure | None
) -> float | None:
    due = turns.finish(tx, turn, state, failure)
    if state is not TurnState.DONE:
        outbox.close(tx, turn.id, PartState.WITHDRAWN if state is TurnState.WITHDRAWN else PartState.FAILED)
    mirror_to_slack.owe_reply(services, tx, turn, failure)
    return due
