"""Step 3: the AI provider's conversation for this customer: the cache, then the database, then a new one.

SQL is the truth: a cache entry that contradicts the database (a reset that could not reach Redis, say) is put right,
not used. Only where the database never had a thread is Redis believed, so that threads of an earlier install that live
in Redis alone are taken over. The in-process cache knows nothing of the kind: what the database does not know must be
of a business that was removed, whose number may be another's by now.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.ports import Assistant
from chatbotctl.core.records.conversation import CachedThread, Line
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import conversations, turns

#: Most lines of our own transcript that a new provider conversation starts with (the provider's limit: providers.md).
SEED_LINES = 20


@dataclass(frozen=True, slots=True)
class FoundThread:
    """The provider's handle for a conversation, and where it was found: cache, database or new."""

    ai_thread: str
    source: str


def find_thread(services: Services, turn: Turn, assistant: Assistant, policy: RetryPolicy) -> FoundThread:
    """The thread to ask in; made, and written back to database and cache, when there is none.

    Raises AssistantError when the provider cannot make one.
    """
    conversation = turn.conversation
    cached = services.cache.get(sender=conversation.client_address, receiver=conversation.business_address)
    known = conversation.ai_thread
    if known is not None:
        if cached is None or cached.thread_id != known:
            _cache(services, turn, known)
            return FoundThread(known, "database")
        return FoundThread(known, "cache")
    if cached is not None and services.cache_is_shared and conversation.reset_seq == 0:
        _store(services, turn, cached.thread_id)
        return FoundThread(cached.thread_id, "cache")
    return new_thread(services, turn, assistant, policy)


def new_thread(services: Services, turn: Turn, assistant: Assistant, policy: RetryPolicy) -> FoundThread:
    """Make a new provider conversation, seeded with what our own transcript knows. Raises AssistantError."""
    with services.database.read() as tx:
        transcript = conversations.transcript(
            tx, turn.conversation, before_seq=turn.messages[0].seq, turns=SEED_LINES // 2
        )
    ai_thread = policy.run(
        lambda seconds: assistant.start_thread(
            business=turn.business,
            customer_hash=customer_hash(turn),
            transcript=transcript[-SEED_LINES:],
            timeout=min(seconds, services.settings.openai.timeout_seconds),
        )
    )
    _store(services, turn, ai_thread)
    _cache(services, turn, ai_thread)
    return FoundThread(ai_thread, "new")


def ask_policy(services: Services) -> RetryPolicy:
    """How the AI provider is tried in one turn: `openai.attempts` a call, within `openai.turn_deadline_seconds`."""
    openai = services.settings.openai
    return RetryPolicy(attempts=openai.attempts, deadline=openai.turn_deadline_seconds)


def customer_hash(turn: Turn) -> str:
    """A stable id of the customer for the provider's abuse monitoring that tells nothing about them.

    From our own row numbers, not from the phone number: a number's hash is undone by trying all numbers.
    """
    text = f"chatbotctl:{turn.business.whatsapp_address}:{turn.conversation.client_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def transcript_of(services: Services, turn: Turn) -> tuple[Line, ...]:
    """The past that an assistant without a memory of its own is given: `openai.history_turns` exchanges."""
    with services.database.read() as tx:
        return conversations.transcript(
            tx,
            turn.conversation,
            before_seq=turn.messages[0].seq,
            turns=services.settings.openai.history_turns,
        )


def _store(services: Services, turn: Turn, ai_thread: str) -> None:
    with services.database.write() as tx:
        # A reset came in between: its next message starts anew, not in a thread that knows what was before it.
        if turns.hold(tx, turn.lease) == turn.epoch:
            conversations.set_ai_thread(tx, turn.conversation.id, ai_thread)


def _cache(services: Services, turn: Turn, ai_thread: str) -> None:
    entry = CachedThread(
        sender=turn.conversation.client_address, receiver=turn.conversation.business_address, thread_id=ai_thread
    )
    services.cache.put(entries=[entry])
