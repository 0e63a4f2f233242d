"""`chatbotctl simulate`: a made-up customer message through the real path; nothing of it reaches a customer."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.options import JsonOption, ReceiverOption, SenderOption
from chatbotctl.commands.session import session_of
from chatbotctl.commands.which_thread import only_business
from chatbotctl.core.addresses import normalise

if TYPE_CHECKING:
    from chatbotctl.core.errors import ChatbotError
    from chatbotctl.core.records.conversation import Conversation
    from chatbotctl.core.records.message import InboundMessage, Outcome
    from chatbotctl.core.wiring import Core

#: Seconds that Slack is given to take the posts of one simulated message.
SLACK_SECONDS = 30.0
#: Seconds beyond the assistant's own deadline that another process's turn in the conversation is waited for.
GRACE_SECONDS = 20.0
#: Events that are left out of the log because the output says the same, and more.
SAID_HERE = frozenset({"turn_failed"})

#: The code of a server's refusal -> what helps. `--url` alone: what is refused here has a hint of its own.
_SERVER_HINTS = {
    "bad_signature": "Sign as the server checks: set PUBLIC_URL and TWILIO_AUTH_TOKEN here as they are there.",
    "business_disabled": "`chatbotctl business enable NAME` lets it answer again.",
    "business_not_found": "`chatbotctl business list`, with the server's own database: that number is not in it.",
    "storage_unavailable": "`chatbotctl db current` with the server's own DATABASE_URL tells what is wrong.",
    "assistant_not_usable": "`chatbotctl business show NAME` tells what its assistant lacks.",
    "message_too_long": "Write less in --body, or raise the limit: `chatbotctl business update NAME "
    "--max-message-chars N`.",
    "not_found": "See that --url is a chatbotctl server's address: http://host:port, or the server.public_url.",
}


@dataclass(frozen=True)
class _Result:
    """What became of the simulated message."""

    #: The outcome's name, or the code of the error that refused the message.
    outcome: str
    replies: list[str]
    thread_id: str | None
    message_sid: str
    #: The HTTP status that Twilio would have seen.
    status: int
    #: Why it was not answered.
    failure: ChatbotError | None


def simulate(
    ctx: typer.Context,
    sender: SenderOption,
    body: Annotated[str, typer.Option("--body", help="What the customer writes.")],
    to: ReceiverOption = None,
    sid: Annotated[str | None, typer.Option("--sid", help="The MessageSid; a new one unless given.")] = None,
    profile_name: Annotated[str | None, typer.Option("--profile-name", help="The customer's WhatsApp name.")] = None,
    slack: Annotated[bool, typer.Option("--slack", help="Mirror it to Slack, marked as simulated.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", help="Post a signed webhook to a running server instead of answering here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a made-up message through the real path. Replies are printed here and reach no customer.

    Example: chatbotctl simulate --from +15557654321 --body "Do you deliver?"
    """
    from chatbotctl.core.records.message import InboundMessage

    with session_of(ctx).core(unlogged=SAID_HERE) as core:
        message = InboundMessage(
            sid=sid or f"SM{uuid.uuid4().hex}",
            sender=normalise(sender),
            receiver=normalise(to) if to is not None else only_business(core).whatsapp_address,
            body=body,
            kind="text" if body.strip() else "empty",
            profile_name=profile_name,
            simulated=True,
            mirrored=slack,
        )
        started = time.perf_counter()
        result = _post(core, message, url) if url else _run_here(core, message)
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        # Slack is nobody's to wait for: first what the customer would read, and how long that took.
        _print(result, elapsed_ms, as_json=as_json)
        if slack and not url:
            _mirror(core, message)
    if result.failure is not None:
        raise result.failure


def _print(result: _Result, elapsed_ms: int, *, as_json: bool) -> None:
    if as_json:
        output.json_document(
            {
                "outcome": result.outcome,
                "replies": result.replies,
                "thread_id": result.thread_id,
                "message_sid": result.message_sid,
                "status": result.status,
                "elapsed_ms": elapsed_ms,
            }
        )
        return
    for reply in result.replies:
        output.quote(reply)
    if result.outcome == "held":
        output.note("An operator holds this thread: the assistant stays quiet.", style="yellow")
    elif result.outcome == "withdrawn":
        output.note("The answer was withdrawn: a reset, a take-over or a disable overtook it.", style="yellow")
    elif result.outcome == "queued":
        output.note("Stored; the answer is still being worked on.", style="yellow")
    output.note(f"{result.outcome} · HTTP {result.status} · {elapsed_ms} ms · {result.message_sid}", style="dim")


def _run_here(core: Core, message: InboundMessage) -> _Result:
    """Run the path in this process."""
    from chatbotctl.core.errors import AssistantNotUsable, ChatbotError
    from chatbotctl.core.flow.simulate import simulate as run
    from chatbotctl.server import answers

    wait_seconds = core.settings.openai.turn_deadline_seconds + GRACE_SECONDS
    try:
        outcome = run(core.services, message, wait_seconds=wait_seconds, on_waiting=_say_what_is_waited_for)
    except ChatbotError as error:
        # Without an assistant the message is stored all the same, and the customer reads the apology.
        replies = _replies(core, message.sid) if isinstance(error, AssistantNotUsable) else []
        return _Result(error.code, replies, None, message.sid, answers.for_error(error).status, error)
    return _result(core, outcome, answers.for_outcome(outcome).status)


def _mirror(core: Core, message: InboundMessage) -> None:
    """Post to Slack what the message has brought about, if it was stored at all."""
    from chatbotctl.core.flow.slack_poster import post_all
    from chatbotctl.core.storage import businesses, outcomes

    with core.database.read() as tx:
        outcome = outcomes.of_message(tx, message.sid)
        business = businesses.find_by_address(tx, message.receiver)
    if outcome is None or business is None:
        return
    if core.mirror_of(business) is None:
        output.note(
            "No Slack token is set: nothing was mirrored. Try: SLACK_BOT_TOKEN for all businesses, or "
            f"`chatbotctl business credentials set {business.name} slack`.",
            style="yellow",
        )
    elif not post_all(core.services, conversation_id=outcome.conversation_id, seconds=SLACK_SECONDS):
        output.note("Slack has not taken everything yet: a running server posts the rest.", style="yellow")


def _say_what_is_waited_for() -> None:
    output.note("Waiting for the turn before in this thread, which a running server has to finish...", style="dim")


def _replies(core: Core, sid: str) -> list[str]:
    """What was printed as the answer to the message with this sid."""
    from chatbotctl.core.storage import outbox

    with core.database.read() as tx:
        return [part.body for part in outbox.replies_to(tx, sid) if part.state == "sent"]


def _result(core: Core, outcome: Outcome, status: int) -> _Result:
    """The result with what the database knows of it."""
    from chatbotctl.core.errors import by_code
    from chatbotctl.core.records.message import Result
    from chatbotctl.core.storage import conversations

    with core.database.read() as tx:
        thread = conversations.get(tx, outcome.conversation_id)
    replies = _replies(core, outcome.message_sid)
    failure = None
    if outcome.result is Result.FAILED:
        failure = by_code(outcome.code)(outcome.message, hint=_hint(outcome, thread))
    return _Result(outcome.result.value, replies, thread.ai_thread, outcome.message_sid, status, failure)


def _hint(outcome: Outcome, thread: Conversation) -> str:
    """What helps against a failure, of which the database keeps no more than a code and a sentence."""
    if "API key" in (outcome.message or ""):
        return "`chatbotctl business credentials set NAME openai` sets another, or OPENAI_API_KEY for all businesses."
    if outcome.code == "assistant_not_usable":
        return "`chatbotctl business show NAME` tells what its assistant lacks."
    return (
        f"`chatbotctl thread show {thread.id}` shows what was said, and `chatbotctl --verbose simulate ...` the "
        "reason that was given at each attempt."
    )


def _post(core: Core, message: InboundMessage, url: str) -> _Result:
    """Post the message to a running server as Twilio would, marked as simulated."""
    from chatbotctl.core.errors import ChatbotError, OutsideError, by_code
    from chatbotctl.core.flow.accept import require_readable
    from chatbotctl.core.storage import outcomes
    from chatbotctl.core.upkeep.post_webhook import post_webhook

    require_readable(message)
    answer = post_webhook(
        message,
        server_url=url,
        public_url=core.settings.server.public_url,
        signature=core.signature_check(core.business_at(message.receiver)),
    )
    with core.database.read() as tx:
        outcome = outcomes.of_message(tx, message.sid)
    if outcome is not None:
        return _result(core, outcome, answer.status)
    failure = None
    if answer.status != 200:
        # The same error, and so the same exit code, as if it had been refused here.
        kind = by_code(answer.code)
        if kind.code != answer.code:
            kind = OutsideError  # HTTP's own refusal of the request, or a proxy's page
        failure = kind(
            f"The server answered {answer.status}: {answer.error or 'no reason given.'}",
            hint=_SERVER_HINTS.get(answer.code or "", "The server's log says more."),
        )
    name = "queued" if answer.queued else "replied" if answer.status == 200 else answer.code or ChatbotError.code
    return _Result(name, [], None, message.sid, answer.status, failure)
