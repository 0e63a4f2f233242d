"""The AI provider's conversation for this customer: the cache, then the database, then a new one.

SQL is the truth: a cache entry that contradicts the database (a reset that could not reach Redis, say) is put right,
not used. Only where the database never had a thread is Redis believed, so that threads of an earlier install that live
in Redis alone are taken over; one that another conversation has is not, for the number may have been that business's
before. The in-process cache knows nothing of the kind: what the database does not know must be of a business that was
removed, whose number may be another's by now.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.flow.services import Services
from chatbotctl.core.ports import Assistant
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.records.turn import Turn
from chatbotctl.core.storage import conversations, turns

#: A new provider conversation is told of as many of the customer's last messages, and what was answered to them; how
#: many lines of that it takes is the provider's business (its adapter cuts).
SEED_MESSAGES = 10


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
            _put_right(services, turn, known)
            return FoundThread(known, "database")
        return FoundThread(known, "cache")
    if cached is not None and services.cache_is_shared and _adopt(services, turn, cached.thread_id):
        return FoundThread(cached.thread_id, "cache")
    return new_thread(services, turn, assistant, policy)


def new_thread(services: Services, turn: Turn, assistant: Assistant, policy: RetryPolicy) -> FoundThread:
    """Make a new provider conversation, seeded with what our own transcript knows. Raises AssistantError.

    For a turn that an operator has gone on with too: the questions after it are asked there, so it knows of everything
    that was answered, the newest included.
    """
    with services.database.read() as tx:
        transcript = conversations.transcript(
            tx,
            turn.conversation,
            before_seq=turn.conversation.done_seq + 1,
            messages=SEED_MESSAGES,
            translated=services.assistant_language(turn.business) is not None,
            without=(turn.messages[0].seq, turn.upto_seq),
        )
    with services.turnstile.outside():
        ai_thread = policy.run(
            lambda seconds: assistant.start_thread(
                business=turn.business,
                customer_hash=customer_hash(turn),
                transcript=transcript,
                timeout=min(seconds, services.settings.openai.timeout_seconds),
            )
        )
    _store(services, turn, ai_thread)
    return FoundThread(ai_thread, "new")


def customer_hash(turn: Turn) -> str:
    """A stable id of the customer for the provider's abuse monitoring that tells nothing about them.

    From our own row's number, not from the customer's: a phone number's hash is undone by trying all of them.
    """
    text = f"chatbotctl:{turn.business.whatsapp_address}:{turn.conversation.client_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _store(services: Services, turn: Turn, ai_thread: str) -> None:
    with services.database.write() as tx:
        keeps_number = conversations.keeps_number(tx, turn.conversation)
        # A reset came in between: its next message starts anew, not in a thread that knows what was before it.
        if turns.check_fence(tx, turn.lease) == turn.epoch:
            conversations.set_ai_thread(tx, turn.conversation.id, ai_thread)
            if keeps_number:
                _cache(services, turn, ai_thread)


def _adopt(services: Services, turn: Turn, ai_thread: str) -> bool:
    """Take over a thread that only the shared cache knows; False when it is, or may be, another conversation's."""
    conversation = turn.conversation
    if conversation.reset_seq != 0:
        return False
    with services.database.write() as tx:
        keeps_number = conversations.keeps_number(tx, conversation)
        is_current = turns.check_fence(tx, turn.lease) == turn.epoch
        if not keeps_number or not is_current or conversations.another_has(tx, conversation, ai_thread):
            return False
        conversations.set_ai_thread(tx, conversation.id, ai_thread)
    return True


def _put_right(services: Services, turn: Turn, ai_thread: str) -> None:
    with services.database.write() as tx:
        keeps_number = conversations.keeps_number(tx, turn.conversation)
        if turns.check_fence(tx, turn.lease) == turn.epoch and keeps_number:
            _cache(services, turn, ai_thread)


def _cache(services: Services, turn: Turn, ai_thread: str) -> None:
    """Inside the transaction that has seen the number to be the business's, although Redis may keep it waiting.

    After it, the number could have moved to another business, which would find the entry under its own key.
    """
    entry = CachedThread(
        sender=turn.conversation.client_address, receiver=turn.conversation.business_address, thread_id=ai_thread
    )
    services.cache.put(entries=[entry])
