"""`chatbotctl thread ...`: the conversations of this install: list them, read one, start one anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import moments, output, transcript
from chatbotctl.commands.business_options import BusinessOption, only_of
from chatbotctl.commands.options import DryRunOption, JsonOption, YesOption
from chatbotctl.commands.session import session_of
from chatbotctl.commands.which_thread import FromOption, IdArgument, ToOption, find_thread
from chatbotctl.core.addresses import bare

if TYPE_CHECKING:
    from chatbotctl.core.records.conversation import ThreadSummary
    from chatbotctl.core.wiring import Core

thread_app = typer.Typer(
    no_args_is_help=True,
    help="Threads: the conversations of customers with businesses.\n\n"
    "Example: chatbotctl thread show --from +15557654321",
)


def _since(text: str) -> float:
    try:
        return moments.since(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@thread_app.command("list")
def list_(
    ctx: typer.Context,
    business: BusinessOption = None,
    held: Annotated[bool, typer.Option("--held", help="Only those that an operator holds.")] = False,
    since: Annotated[
        float | None,
        typer.Option(
            "--since",
            metavar="TIME",
            parser=_since,
            help="Only those with a message since then: 30m, 24h, 7d, 2026-11-01 or 2026-11-01T08:30.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List threads, the one with the latest message first.

    Example: chatbotctl thread list --business luna-bakery --since 24h
    """
    from chatbotctl.core.storage import conversations

    with session_of(ctx).core() as core, core.database.read() as tx:
        only = only_of(tx, business)
        found = conversations.listed(tx, business=only, held=held, since=since, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        output.json_document([as_listed(each) for each in shown])
        return
    if not shown:
        output.note("There is no such thread." if only or held or since else "There is no thread yet.")
        return
    output.table(
        ("ID", "BUSINESS", "CUSTOMER", "NAME", "MESSAGES", "LATEST", "HELD BY"),
        [_row(each) for each in shown],
        right=("ID", "MESSAGES"),
    )
    if len(found) > limit:
        output.note("There are more: --limit shows more, --since and --business fewer.", style="dim")


@thread_app.command()
def show(
    ctx: typer.Context,
    thread_id: IdArgument = None,
    sender: FromOption = None,
    to: ToOption = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, max=100_000, help="Only the last N messages.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a thread: what was said, when, and what became of it.

    Example: chatbotctl thread show --from +15557654321 --last 20
    """
    from chatbotctl.core.storage import conversations, events, outcomes

    with session_of(ctx).core() as core:
        found = find_thread(core, thread_id, sender, to)
        with core.database.read() as tx:
            messages = conversations.history(tx, found.conversation.id, last=last)
            resets = sorted(
                [at for kind in ("reset", "new_owner") for at in events.times(tx, found.conversation.id, kind)]
            )
            failed = outcomes.failed_turns(tx, found.conversation.id)
    if as_json:
        output.json_document(
            {"thread": as_listed(found), "messages": [transcript.as_json(message) for message in messages]}
        )
        return
    transcript.show(found, messages, resets, failed)


@thread_app.command()
def reset(
    ctx: typer.Context,
    thread_id: IdArgument = None,
    sender: FromOption = None,
    to: ToOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Let the assistant start a thread anew: it no longer sees what was said; people still do.

    Nothing is deleted, and a reply under way is withdrawn.

    Example: chatbotctl thread reset --from +15557654321
    """
    from chatbotctl.core.storage import conversations

    with session_of(ctx).core() as core:
        found = find_thread(core, thread_id, sender, to)
        what = f"thread {found.conversation.id} ({bare(found.conversation.client_address)} with {found.business_name})"
        if dry_run:
            output.note(f"Would reset {what}: the assistant would not see its messages any more.")
            return
        output.confirm(f"Reset {what}? The assistant will not see its messages any more.", yes=yes)
        with core.database.write() as tx:
            conversation = conversations.get(tx, found.conversation.id)
            is_new = conversation.ai_thread is None and conversation.reset_seq == conversation.last_seq
            if not is_new:
                conversations.reset(tx, conversation)
        output.note(f"{what[0].upper()}{what[1:]} {'was reset already' if is_new else 'is reset'}.")
        _forget_cached(core, found)


def as_listed(summary: ThreadSummary) -> dict[str, object]:
    """A thread as JSON lists it; the keys are stable."""
    thread = summary.conversation
    return {
        "id": thread.id,
        "business": summary.business_name,
        "from": thread.client_address,
        "to": thread.business_address,
        "thread_id": thread.ai_thread,
        "messages": summary.messages,
        "last_message_at": moments.iso(summary.last_message_at),
        "held_by": thread.held_by.value,
    }


def _row(summary: ThreadSummary) -> tuple[object, ...]:
    thread = summary.conversation
    return (
        thread.id,
        summary.business_name,
        bare(thread.client_address),
        thread.profile_name,
        summary.messages,
        moments.lately(summary.last_message_at),
        thread.held_by.value,
    )


def _forget_cached(core: Core, found: ThreadSummary) -> None:
    """Take the entry out of a shared cache. One that stays behind does no harm here: the database decides."""
    from chatbotctl.core.errors import OutsideError
    from chatbotctl.core.records.conversation import cache_key
    from chatbotctl.core.upkeep.forget_threads import forget_threads

    thread = found.conversation
    try:
        forget_threads([cache_key(thread.client_address, thread.business_address)], core.shared_cache())
    except OutsideError as error:
        output.note(f"{error.message} The next message will not use it.", style="yellow")
