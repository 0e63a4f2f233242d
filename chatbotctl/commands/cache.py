"""`chatbotctl cache ...`: the thread cache in Redis: look at an entry, compare it with the database, fill it anew."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from chatbotctl.commands import output
from chatbotctl.commands.exit_codes import PROBLEMS_FOUND
from chatbotctl.commands.options import DryRunOption, JsonOption, ReceiverOption, SenderOption
from chatbotctl.commands.session import session_of
from chatbotctl.commands.which_thread import business_at, only_business
from chatbotctl.core.addresses import normalise

if TYPE_CHECKING:
    from chatbotctl.core.ports import ThreadCache
    from chatbotctl.core.records.conversation import CachedThread
    from chatbotctl.core.upkeep.verify_cache import Difference
    from chatbotctl.core.wiring import Core

#: Differences that `verify` shows in full.
EXAMPLES = 20

cache_app = typer.Typer(
    no_args_is_help=True,
    help="The thread cache in Redis. It is a copy: the database decides.\n\nExample: chatbotctl cache verify",
)


@cache_app.command()
def rebuild(ctx: typer.Context, dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Write everything the database knows into the cache, and remove what it does not know.

    Servers may run meanwhile, and no live key is ever missing. Can be run again at any time.

    Example: chatbotctl cache rebuild
    """
    from chatbotctl.core.upkeep.rebuild_cache import rebuild as run

    # What is loaded by now stays: without this, every pass of the garbage collector looks at all of it again.
    gc.freeze()
    started = time.perf_counter()
    with _opened(ctx) as (core, cache):
        done = run(core.database, cache, progress=output.progress, dry_run=dry_run)
    seconds = time.perf_counter() - started
    if as_json:
        told = {"written": done.written, "removed": done.removed, "seconds": round(seconds, 3)}
        output.json_document(told | {"dry_run": True} if dry_run else told)
        return
    entries = f"{done.written:,} {'entry' if done.written == 1 else 'entries'}"
    if dry_run:
        output.line(f"Would write {entries} and remove {done.removed:,}.")
    else:
        output.line(f"Wrote {entries} and removed {done.removed:,} in {seconds:.1f} s.")


@cache_app.command()
def verify(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Compare the cache with the database, and change nothing. Ends with exit code 8 when they differ.

    Example: chatbotctl cache verify --json
    """
    from chatbotctl.core.upkeep.verify_cache import Kind, differences

    found: Counter[str] = Counter()
    examples: list[Difference] = []
    with _opened(ctx) as (core, cache):
        for difference in differences(core.database, cache, progress=output.progress):
            found[difference.kind.value] += 1
            if len(examples) < EXAMPLES:
                examples.append(difference)
    if as_json:
        output.json_document({kind.value: found[kind.value] for kind in Kind})
    elif not found:
        output.line("The cache holds what the database knows, and nothing else.")
    else:
        output.table(("PROBLEM", "KEY", "IN THE CACHE", "IN THE DATABASE"), [_row(each) for each in examples])
    if found:
        counts = ", ".join(f"{found[kind.value]:,} {kind.value}" for kind in Kind)
        output.note(f"The cache differs from the database: {counts}. `chatbotctl cache rebuild` mends it.")
        raise typer.Exit(PROBLEMS_FOUND)


@cache_app.command()
def show(
    ctx: typer.Context,
    sender: SenderOption,
    to: ReceiverOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the cache's entry for a customer and a business, and what the database says.

    Example: chatbotctl cache show --from +15557654321 --to +15550001111
    """
    from chatbotctl.core.errors import NotFoundError

    with _opened(ctx) as (core, cache):
        wanted, stored = _wanted(core, sender, to)
        cached = cache.get(sender=wanted.sender, receiver=wanted.receiver)
    if cached is None and stored is None:
        raise NotFoundError(
            f"Neither the cache nor the database has a thread for {wanted.key}.",
            hint="`chatbotctl thread list` shows those that there are.",
        )
    if as_json:
        entry = {"from": cached.sender, "to": cached.receiver, "thread_id": cached.thread_id} if cached else None
        output.json_document({"key": wanted.key, "cache": entry, "database": {"thread_id": stored}})
        return
    output.facts(
        {
            "Key": wanted.key,
            "from": cached and cached.sender,
            "to": cached and cached.receiver,
            "thread_id": cached and cached.thread_id,
            "In the database": stored,
        }
    )
    if (cached.thread_id if cached else None) != stored:
        output.note("They differ: the database decides. `chatbotctl cache rebuild` mends the cache.", style="yellow")


@contextmanager
def _opened(ctx: typer.Context) -> Iterator[tuple[Core, ThreadCache]]:
    with session_of(ctx).core() as core, core.strict_cache() as cache:
        yield core, cache


def _wanted(core: Core, sender: str, to: str | None) -> tuple[CachedThread, str | None]:
    """The key that is meant, as an entry without a thread, and the thread in the database."""
    from chatbotctl.core.errors import ConversationNotFound
    from chatbotctl.core.records.conversation import CachedThread
    from chatbotctl.core.storage import conversations

    address = normalise(sender)
    only = only_business(core) if to is None else None
    with core.database.read() as tx:
        business = only or business_at(tx, normalise(to or ""))
        try:
            thread = conversations.find(tx, business, address)
        except ConversationNotFound:
            return CachedThread(sender=address, receiver=business.whatsapp_address, thread_id=""), None
    # The key begins with the customer's first known address, whichever spelling of the number was typed.
    key = CachedThread(sender=thread.client_address, receiver=thread.business_address, thread_id="")
    return key, thread.ai_thread


def _row(difference: Difference) -> tuple[object, ...]:
    cached, stored = difference.cached, difference.stored
    here = cached.thread_id if cached else "nothing" if difference.kind.value == "missing" else "not readable"
    return difference.kind.value, difference.key, here, stored.thread_id if stored else "nothing"
