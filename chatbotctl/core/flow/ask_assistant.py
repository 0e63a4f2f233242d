"""Step 5: the business's assistant is asked, as often and as long as its policy allows."""

from __future__ import annotations

from chatbotctl.core.errors import BusinessDisabled, OutsideError, ThreadGone
from chatbotctl.core.flow.find_thread import FoundThread, customer_hash, new_thread, transcript_of
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.ports import Assistant
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import events


def require_enabled(turn: Turn) -> None:
    """Raise BusinessDisabled when the business was disabled after it took the message in."""
    if turn.business.is_disabled:
        raise BusinessDisabled


def check_assistant(services: Services, turn: Turn) -> Assistant:
    """The assistant that answers for this business. Raises ConfigurationError."""
    return services.assistant_of(turn.business)


def ask_assistant(
    services: Services, turn: Turn, assistant: Assistant, policy: RetryPolicy, thread: FoundThread, text: str
) -> Answer:
    """The assistant's answer to `text`.

    A conversation that the provider no longer knows is replaced once, by a new one seeded from our own transcript.
    Raises AssistantError when no attempt gave a usable answer.
    """
    transcript = transcript_of(services, turn) if turn.business.tells_history else ()

    def ask(thread: FoundThread) -> Answer:
        detail = {"backend": turn.business.backend.value, "thread": thread.source}
        _note(services, turn, "asked", detail)
        return policy.run(
            lambda seconds: assistant.ask(
                question=Question(
                    business=turn.business,
                    ai_thread=thread.ai_thread,
                    text=text,
                    transcript=transcript,
                    customer_hash=customer_hash(turn),
                    turn_id=turn.id,
                    timeout=min(seconds, services.settings.openai.timeout_seconds),
                )
            ),
            on_failure=lambda error: _note_failure(services, turn, error),
        )

    try:
        return ask(thread)
    except ThreadGone:
        event("thread_replaced", level="warning", turn=turn.id, conversation=turn.conversation.id)
        return ask(new_thread(services, turn, assistant, policy))


def _note_failure(services: Services, turn: Turn, error: OutsideError) -> None:
    event("ask_failed", level="warning", turn=turn.id, business=turn.business.name, reason=error.reason)
    _note(services, turn, "ask_failed", {"reason": error.reason, "code": error.code})


def _note(services: Services, turn: Turn, kind: str, detail: dict[str, str]) -> None:
    with services.database.write() as tx:
        events.record(tx, turn.conversation.id, kind, turn_id=turn.id, detail=detail)
