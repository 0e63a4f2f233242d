"""A message that an operator makes up, through the very same path, in this process and without any server.

Whatever happens, only simulated messages are answered here: a real customer's message that waits in the same
conversation is left to the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from chatbotctl.core.flow.accept import Accepted, accept
from chatbotctl.core.flow.await_outcome import await_outcome
from chatbotctl.core.flow.heartbeat import Heartbeat
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.worker import work_once, worker_name
from chatbotctl.core.log import about
from chatbotctl.core.records.message import InboundMessage, Outcome, Result

#: Seconds between attempts while somebody else (a server on the same database) has the conversation.
LOOK_SECONDS = 0.2


def simulate(
    services: Services, message: InboundMessage, *, wait_seconds: float, on_waiting: Callable[[], None] = lambda: None
) -> Outcome:
    """Take a simulated message in, run its turn, and return what became of it.

    Arguments:
        on_waiting: called once when somebody else's turn in the conversation, a real customer's perhaps, comes first.

    `queued` after `wait_seconds` means that somebody else's turn in the conversation is not finished.
    Raises what `accept` raises, and AssistantNotUsable.
    """
    assert message.simulated, "a real message is the server's"
    with about(sid=None, business=None):
        # No worker is told: the turn is run here, where what is said is shown.
        accepted = accept(services, message, wake=False)
        outcome = _run(services, accepted, wait_seconds, on_waiting)
    if accepted.problem is not None:
        raise accepted.problem
    return outcome


def _run(services: Services, accepted: Accepted, wait_seconds: float, on_waiting: Callable[[], None]) -> Outcome:
    owner = worker_name()
    end = time.monotonic() + wait_seconds
    told = False
    with Heartbeat(services, owner, lambda: [accepted.conversation_id]):
        while True:
            work_once(services, accepted.conversation_id, owner=owner, simulated_only=True)
            outcome = await_outcome(services, accepted, wait_seconds=0)
            if outcome.result is not Result.QUEUED or time.monotonic() >= end:
                return outcome
            if not told:
                told = True
                on_waiting()
            time.sleep(LOOK_SECONDS)
