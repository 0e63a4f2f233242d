"""A message's path, step by step: this file is its table of contents, each step is a file of its own.

`receive` is what the webhook and `simulate` call: it takes a message in and waits for its outcome. `run_turn` is what a
worker calls for a conversation that it has claimed: it brings the conversation's next turn to its end.
"""

from __future__ import annotations

from chatbotctl.core.errors import AssistantError, BusinessDisabled, ConfigurationError
from chatbotctl.core.flow.accept import Accepted, accept
from chatbotctl.core.flow.ask_assistant import ask_assistant, ask_policy, require_enabled
from chatbotctl.core.flow.await_outcome import await_outcome
from chatbotctl.core.flow.find_thread import find_thread
from chatbotctl.core.flow.prepare_reply import prepare_apology, prepare_reply, prepare_text_only
from chatbotctl.core.flow.send_reply import Delivery, send_reply
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.settle import settle
from chatbotctl.core.flow.translate import translate_answer, translate_question
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.message import InboundMessage, Outcome
from chatbotctl.core.records.turn import Turn


def receive(
    services: Services, message: InboundMessage, business: Business | None = None, *, wait_seconds: float
) -> Outcome:
    """Take a message in, and wait up to `wait_seconds` for what becomes of it. `business`: whom it is for, if known.

    Raises what `accept` raises; once it returns or raises AssistantNotUsable, the message is stored. Raises
    BusinessNotFound too when the business is removed while its answer is awaited.
    """
    accepted: Accepted = accept(services, message, business)
    if accepted.problem is not None:
        raise accepted.problem
    return await_outcome(services, accepted, wait_seconds=wait_seconds, just_now=True)


def run_turn(services: Services, turn: Turn) -> float | None:
    """Bring a turn to its end; one that is resumed goes on where it stopped. Returns what `settle` does."""
    if not turn.answered:
        turn = answer_turn(services, turn)
    delivery: Delivery = send_reply(services, turn)
    return settle(services, turn, delivery)


def answer_turn(services: Services, turn: Turn) -> Turn:
    """Find out what the customer is to read, and store it."""
    try:
        require_enabled(turn)
        if not turn.text:
            return prepare_text_only(services, turn)
        assistant = services.assistant_of(turn.business)
        policy = ask_policy(services)
        thread = find_thread(services, turn, assistant, policy)
        question = translate_question(services, turn)
        asked = ask_assistant(services, turn, assistant, policy, thread, question)
        translation = translate_answer(services, turn, asked.answer)
        return prepare_reply(services, turn, asked, translation)
    except (AssistantError, ConfigurationError, BusinessDisabled) as error:
        return prepare_apology(services, turn, error)
