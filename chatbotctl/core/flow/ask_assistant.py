"""The business's assistant is asked, as often and as long as its policy allows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chatbotctl.core.errors import AssistantError, BusinessDisabled, OutsideError, ThreadGone
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow.find_thread import FoundThread, customer_hash, new_thread
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.ports import Assistant
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.conversation import Line
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import conversations, events, turns


@dataclass(frozen=True, slots=True)
class Asked:
    """What the assistant answered, where it was asked, and how long that took, all attempts included."""

    answer: Answer
    thread: FoundThread
    seconds: float


def require_enabled(turn: Turn) -> None:
    """Raise BusinessDisabled when the business was disabled after it took the message in."""
    if turn.business.is_disabled:
        raise BusinessDisabled


def ask_policy(services: Services) -> RetryPolicy:
    """How the AI provider is tried in one turn: `openai.attempts` a call, within `openai.turn_deadline_seconds`."""
    openai = services.settings.openai
    return RetryPolicy(
        attempts=openai.attempts,
        deadline=openai.turn_deadline_seconds,
        on_retry=lambda: services.metrics.retried("assistant"),
    )


def ask_assistant(
    services: Services, turn: Turn, assistant: Assistant, policy: RetryPolicy, thread: FoundThread, text: str
) -> Asked:
    """Have the assistant answer `text`.

    A call whose outcome is unknown (a timeout, a process that died) may have been answered unheard: before the next one
    the provider's own conversation is looked at, so that the question does not stand in it twice. A conversation that
    the provider no longer knows is replaced once, by a new one seeded from our own transcript. A worker that was frozen
    past its lease asks nobody: its heir may be asking in that very conversation, for the next turn perhaps.
    Raises AssistantError when no attempt gave a usable answer; LeaseLost when another worker has the conversation.
    """
    reach("thread_found")
    transcript = _transcript_of(services, turn) if turn.business.tells_history else ()

    def question(thread: FoundThread, seconds: float) -> Question:
        return Question(
            business=turn.business,
            ai_thread=thread.ai_thread,
            text=text,
            transcript=transcript,
            customer_hash=customer_hash(turn),
            turn_id=turn.id,
            timeout=min(seconds, services.settings.openai.timeout_seconds),
        )

    def ask(thread: FoundThread, *, unsure: bool) -> Asked:
        began = time.monotonic()
        attempt = _Attempt(services, turn, assistant, unsure=unsure)
        with services.turnstile.outside():
            answer = policy.run(
                lambda seconds: attempt.answer(question(thread, seconds)),
                on_failure=lambda error: _note_failure(services, turn, thread, error),
            )
        return Asked(answer, thread, time.monotonic() - began)

    try:
        return ask(thread, unsure=turn.resumed)
    except ThreadGone:
        event("thread_replaced", level="warning")
        return ask(new_thread(services, turn, assistant, policy), unsure=False)


class _Attempt:
    """Asks, and remembers whether an earlier call may have been answered without our hearing it.

    A customer may ask in the same words again, and the provider's conversation does not tell which of the questions was
    answered: an answer like the one before is taken for that one. To ask once too often is better than to answer "Is it
    ready?" with what was true yesterday.
    """

    def __init__(self, services: Services, turn: Turn, assistant: Assistant, *, unsure: bool) -> None:
        self._services = services
        self._turn = turn
        self._assistant = assistant
        self._unsure = unsure

    def answer(self, question: Question) -> Answer:
        # What came before (finding the thread, a failed attempt and the wait after it) may have outlasted the lease.
        with self._services.database.read() as tx:
            turns.require_held(tx, self._turn.lease)
        if self._unsure:
            unheard = self._assistant.look_back(question=question)
            if unheard is not None and unheard.text != self._reply_before():
                return unheard
        try:
            with self._services.metrics.asking(question.business.backend.value):
                answer = self._assistant.ask(question=question)
        except AssistantError as error:
            self._unsure = self._unsure or error.unknown_outcome or error.still_busy
            raise
        reach("asked")
        return answer

    def _reply_before(self) -> str | None:
        with self._services.database.read() as tx:
            return turns.reply_before(tx, self._turn)


def _transcript_of(services: Services, turn: Turn) -> tuple[Line, ...]:
    """The past that an assistant without a memory of its own is given."""
    with services.database.read() as tx:
        return conversations.transcript(
            tx,
            turn.conversation,
            before_seq=turn.messages[0].seq,
            messages=services.settings.openai.history_turns,
            translated=services.assistant_language(turn.business) is not None,
        )


def _note_failure(services: Services, turn: Turn, thread: FoundThread, error: OutsideError) -> None:
    event("ask_failed", level="warning", reason=error.reason)
    with services.database.write(durable=False) as tx:
        detail = {"reason": error.reason, "code": error.code, "thread": thread.source}
        events.record(tx, turn.conversation.id, "ask_failed", turn_id=turn.id, detail=detail)
