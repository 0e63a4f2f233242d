"""Is this message for us, and can it be answered? Then it is stored, in one commit, before anybody is told.

What is refused here is not stored: it belongs to nobody (unknown number), or its business said no (disabled, too long).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chatbotctl.core.addresses import mask
from chatbotctl.core.errors import (
    AssistantNotUsable,
    BusinessDisabled,
    BusinessNotFound,
    ChatbotError,
    MessageTooLong,
    RefusedError,
    SecretKeyError,
    UnreadableMessage,
)
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event, note
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Due
from chatbotctl.core.records.message import InboundMessage
from chatbotctl.core.storable_text import require_storable
from chatbotctl.core.storage import businesses, events, inbox

#: Characters that inbound_messages.sid holds; Twilio's sids have 34.
LONGEST_SID = 64


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is stored."""

    sid: str
    conversation_id: int
    seq: int
    #: Another copy of a message that was there already.
    duplicate: bool
    #: An operator holds the conversation: no answer will come from the assistant.
    held: bool
    #: Why nobody can answer it: the business has no usable assistant. Operators see the message all the same.
    problem: AssistantNotUsable | None = None


def accept(
    services: Services, message: InboundMessage, business: Business | None = None, *, wake: bool = True
) -> Accepted:
    """Validate a message and store it once.

    Arguments:
        business: whom it is for, where the caller has just looked that up.
        wake: tell a worker that it is there.

    Raises BusinessNotFound, BusinessDisabled, MessageTooLong, UnreadableMessage (nothing stored); StorageUnavailable
    (not known to be stored: nothing may be acknowledged).
    """
    name = ""
    try:
        require_readable(message)
        note(sid=message.sid)
        business = _require_business(services, message, business)
        name = business.name
        note(business=name)
        accepted = _take_in(services, business, message, wake=wake)
    except ChatbotError as error:
        services.metrics.message(name, error.code)
        raise
    services.metrics.message(name, "duplicate" if accepted.duplicate else "stored")
    return accepted


def _require_business(services: Services, message: InboundMessage, business: Business | None) -> Business:
    if business is None:
        with services.database.read() as tx:
            business = businesses.find_by_address(tx, message.receiver)
    if business is None:
        raise BusinessNotFound(
            f"No business has the number {mask(message.receiver)}.",
            hint="`chatbotctl business list` shows all numbers; `chatbotctl business add` adds one.",
        )
    return business


def _take_in(services: Services, business: Business, message: InboundMessage, *, wake: bool) -> Accepted:
    try:
        _validate(services, business, message)
    except RefusedError:
        # Taken in before the business was disabled, say: what was answered for the first copy holds for all.
        if _first_copy_of(services, business, message.sid) is None:
            raise
    accepted = _store(services, business, message, wake=wake)
    if not accepted.held and message.has_text:
        return replace(accepted, problem=_problem(services, business))
    return accepted


def require_readable(message: InboundMessage) -> None:
    """Raise UnreadableMessage for what no store can hold: a shell, say, hands any bytes over to `simulate`."""
    if len(message.sid) > LONGEST_SID or not message.sid.isprintable():
        raise UnreadableMessage(f"MessageSid is not an id of up to {LONGEST_SID} characters.")
    require_storable(message.body, "Body")
    require_storable(message.profile_name or "", "ProfileName")


def _validate(services: Services, business: Business, message: InboundMessage) -> None:
    if business.is_disabled:
        raise BusinessDisabled(hint=f"`chatbotctl business enable {business.name}` enables it again.")
    limit = business.max_message_chars or services.settings.limits.max_message_chars
    if len(message.body) > limit:
        raise MessageTooLong(
            f"The message has {len(message.body)} characters; this business takes up to {limit}.",
            hint="Raise limits.max_message_chars, or the business's own limit, if it should be taken.",
        )


def _store(services: Services, business: Business, message: InboundMessage, *, wake: bool) -> Accepted:
    # A simulated message is answered at once: nobody types a burst into `simulate`.
    quiet = 0.0 if message.simulated else services.settings.worker.quiet_seconds
    try:
        with services.database.write() as tx:
            taken = inbox.take(
                tx,
                business,
                message,
                quiet_seconds=quiet,
                max_wait_seconds=services.settings.worker.max_wait_seconds,
            )
            mirror_to_slack.owe_customer_line(services, tx, business, message, taken)
    except inbox.DuplicateMessage:
        return _duplicate(services, business, message)
    reach("stored")
    note(conversation=taken.conversation_id)
    # At debug: a webhook's own event tells the same once it is answered.
    event("message_stored", level="debug", conversation=taken.conversation_id)
    if wake and not taken.held:
        services.wakeup.wake(due=Due(taken.conversation_id, business.id), delay=taken.delay)
    return Accepted(message.sid, taken.conversation_id, taken.seq, duplicate=False, held=taken.held)


def _duplicate(services: Services, business: Business, message: InboundMessage) -> Accepted:
    first = _first_copy_of(services, business, message.sid)
    if first is None:
        raise UnreadableMessage("This MessageSid belongs to a message of another business.")
    with services.database.write() as tx:
        events.record(tx, first.conversation_id, "duplicate", message_sid=message.sid)
    note(conversation=first.conversation_id)
    event("message_duplicate", conversation=first.conversation_id)
    return Accepted(message.sid, first.conversation_id, first.seq, duplicate=True, held=first.held)


def _first_copy_of(services: Services, business: Business, sid: str) -> inbox.Taken | None:
    """The message with this sid if this business has it; another business's is none of its concern."""
    with services.database.read() as tx:
        return inbox.find(tx, sid, business)


def _problem(services: Services, business: Business) -> AssistantNotUsable | None:
    """Why this business could not be answered for, if so."""
    try:
        services.assistant_of(business)
    except AssistantNotUsable as error:
        return error
    except SecretKeyError as error:
        return AssistantNotUsable(error.message, hint=error.hint)
    return None
