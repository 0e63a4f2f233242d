"""`chatbotctl business remove`: a business and everything that belongs to it, for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from chatbotctl.commands import business_options as options
from chatbotctl.commands import output
from chatbotctl.commands.options import DryRunOption, YesOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.records.business import Business, KnowledgeFile
    from chatbotctl.core.wiring import Core


def remove(
    ctx: typer.Context,
    name: options.NameOf,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    keep_uploads: options.KeepUploadsOption = False,
) -> None:
    """Delete a business with its threads, messages, knowledge files and credentials, for good.

    `business disable` only stops answering.

    Example: chatbotctl business remove luna --dry-run
    """
    from chatbotctl.core.storage import businesses, knowledge
    from chatbotctl.core.upkeep.forget_threads import forget_threads

    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
            threads = businesses.count_conversations(tx, business)
            files = knowledge.listed(tx, business)
        uploaded = [file for file in files if file.provider_file_id is not None and not keep_uploads]
        what = _described(business, threads, files, len(uploaded))
        if dry_run:
            output.note(f"Would remove {what}.")
            return
        output.confirm(f"Remove {what}?", yes=yes)
        _delete_uploads(core, business, uploaded)
        with core.database.write() as tx:
            keys = businesses.cache_keys(tx, business)
            gone = businesses.remove(tx, business)
        output.note(f"Removed {name} with {_count(gone, 'thread')}.")
        forget_threads(keys, core.shared_cache())


def _described(business: Business, threads: int, files: list[KnowledgeFile], uploaded: int) -> str:
    """What goes with the business, in words."""
    at_provider = f" ({uploaded} also at the AI provider)" if uploaded else ""
    parts = [
        f"{_count(threads, 'thread')} with all messages",
        f"{_count(len(files), 'knowledge file')}{at_provider}",
    ]
    if business.own_credentials:
        parts.append(f"credentials for {', '.join(sorted(business.own_credentials))}")
    return f"{business.name} ({business.whatsapp_address}): {', '.join(parts)}"


def _delete_uploads(core: Core, business: Business, uploaded: list[KnowledgeFile]) -> None:
    """First at the provider: once the rows are gone, nobody knows any more what to delete there."""
    from chatbotctl.commands.business_knowledge import delete_copies

    if uploaded:
        delete_copies(core, business, uploaded)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
