"""`chatbotctl business knowledge ...`: the files a business's assistant answers from.

They are kept in the database; for the backend `openai` they are also copied to a vector store of the provider's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import business_options as options
from chatbotctl.commands import business_report as report
from chatbotctl.commands import moments, output
from chatbotctl.commands.options import DryRunOption, JsonOption, YesOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatbotctl.core.records.business import Business, KnowledgeFile
    from chatbotctl.core.wiring import Core

knowledge_app = typer.Typer(
    no_args_is_help=True,
    help="The files that a business's assistant answers from.\n\n"
    "Example: chatbotctl business knowledge add luna faq.md prices.md",
)


@knowledge_app.command()
def add(
    ctx: typer.Context,
    name: options.NameOf,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders of text files.")],
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Upload nothing now; `knowledge sync` does it later.")
    ] = False,
) -> None:
    """Keep files for a business, over those of the same name; with the backend openai also upload them.

    Text files are Markdown or plain text in UTF-8, up to 5 MB each; openai also takes PDF, Word and a few more.

    Example: chatbotctl business knowledge add luna faq.md prices.md
    """
    from chatbotctl.core.records.business import Backend
    from chatbotctl.core.storage import businesses
    from chatbotctl.core.upkeep import knowledge_intake

    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
        files = knowledge_intake.read(paths, business.backend)
        output.note(f"{_keep(core, business, files)} for {name}.")
        if business.backend is Backend.OPENAI and not no_sync:
            _sync(core, business)
        else:
            report.advise(core, business)


@knowledge_app.command("list")
def list_(ctx: typer.Context, name: options.NameOf, as_json: JsonOption = False) -> None:
    """List a business's files.

    Example: chatbotctl business knowledge list luna
    """
    from chatbotctl.core.records.business import Backend
    from chatbotctl.core.storage import businesses, knowledge

    with session_of(ctx).core() as core, core.database.read() as tx:
        business = businesses.by_name(tx, name)
        files = knowledge.listed(tx, business)
    if as_json:
        output.json_document(
            [
                {
                    "name": file.name,
                    "size": file.size,
                    "sha256": file.sha256,
                    "added_at": moments.iso(file.added_at),
                    "uploaded": file.is_uploaded,
                }
                for file in files
            ]
        )
    elif files:
        is_copied = business.backend is Backend.OPENAI
        rows = [
            (file.name, f"{file.size:,}", moments.lately(file.added_at), _copy_of(file, is_copied=is_copied))
            for file in files
        ]
        output.table(("NAME", "BYTES", "ADDED", "AT THE AI PROVIDER"), rows, right=("BYTES",))
    else:
        output.note(f"{name} has no knowledge files. Try: chatbotctl business knowledge add {name} PATH")


@knowledge_app.command()
def remove(
    ctx: typer.Context,
    name: options.NameOf,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Names, as `knowledge list` shows them.")],
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    keep_uploads: options.KeepUploadsOption = False,
) -> None:
    """Forget files, and delete their copies at the AI provider.

    Example: chatbotctl business knowledge remove luna old-prices.md
    """
    from chatbotctl.core.storage import businesses, knowledge

    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
            found = [knowledge.get(tx, business, file) for file in dict.fromkeys(files)]
        what = f"{', '.join(file.name for file in found)} from the knowledge of {name}"
        if dry_run:
            output.note(f"Would remove {what}.")
            return
        output.confirm(f"Remove {what}?", yes=yes)
        if not keep_uploads:
            delete_copies(core, business, found)
        _forget(core, business, found, keep_uploads=keep_uploads)
        output.note(f"Removed {what}.")


@knowledge_app.command()
def sync(ctx: typer.Context, name: options.NameOf) -> None:
    """Bring the AI provider's copies of a business's files up to date; what is there already is not sent again.

    Example: chatbotctl business knowledge sync luna
    """
    from chatbotctl.core.errors import RefusedError
    from chatbotctl.core.records.business import Backend
    from chatbotctl.core.storage import businesses

    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
        if business.backend is Backend.KNOWLEDGE:
            output.note(f"Nothing to upload: {name}'s assistant reads its files here.")
            return
        if business.backend is not Backend.OPENAI:
            raise RefusedError(
                f"The backend {business.backend.value} has no store for files.",
                hint=f"`chatbotctl business update {name} --backend openai`, or tell it what it must know by "
                "--instructions.",
            )
        _sync(core, business)


def delete_copies(core: Core, business: Business, files: Sequence[KnowledgeFile]) -> None:
    """Delete the AI provider's copies of these files. Raises AssistantError or AssistantNotUsable with a way out."""
    from chatbotctl.core.errors import AssistantError, AssistantNotUsable
    from chatbotctl.core.upkeep import knowledge_sync

    copied = [file for file in files if file.provider_file_id is not None]
    if not copied:
        return
    way_out = "Leave the copies there with --keep-uploads."
    try:
        store = core.knowledge_store_of(business)
        with output.progress("Deleting at the AI provider", total=len(copied), unit="files") as advance:
            knowledge_sync.take_away(core.database, store, copied, advance=advance)
    except (AssistantError, AssistantNotUsable) as error:
        error.hint = f"{error.hint} {way_out}" if error.hint else way_out
        raise


def _keep(core: Core, business: Business, files: Mapping[str, bytes]) -> str:
    """Store the files, all or none; returns what was done, in words."""
    from chatbotctl.core.storage import knowledge

    with core.database.write() as tx:
        before = {file.name for file in knowledge.listed(tx, business)}
        changed = [name for name, content in files.items() if knowledge.put(tx, business, name, content)]
    new = sum(name not in before for name in changed)
    counts = {"new": new, "changed": len(changed) - new, "unchanged": len(files) - len(changed)}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"Kept {len(files)} file{'' if len(files) == 1 else 's'} ({told})"


def _forget(core: Core, business: Business, files: Sequence[KnowledgeFile], *, keep_uploads: bool) -> None:
    """Raises ConflictError when a file was uploaded in the meantime: its copy would be left behind unknown."""
    from chatbotctl.core.errors import ConflictError, NotFoundError
    from chatbotctl.core.storage import knowledge

    with core.database.write() as tx:
        for file in files:
            try:
                present = knowledge.get(tx, business, file.name)
            except NotFoundError:
                continue  # somebody else was quicker
            if present.provider_file_id is not None and not keep_uploads:
                raise ConflictError(f"{file.name} was uploaded by another run just now.", hint="Try once more.")
            knowledge.remove(tx, present)


def _sync(core: Core, business: Business) -> None:
    """Upload what is missing or changed, showing how far it has come."""
    from chatbotctl.core.upkeep import knowledge_sync

    store = core.knowledge_store_of(business)
    plan = knowledge_sync.prepare(core.database, store, business)
    if plan.pending:
        with output.progress("Uploading", total=len(plan.pending), unit="files") as advance:
            knowledge_sync.carry_out(
                core.database, store, plan, attempts=core.settings.openai.attempts, advance=advance
            )
    uploaded = f"Uploaded {len(plan.pending)}" if plan.pending else "Nothing to upload"
    if plan.store_id is None:
        output.note(f"Nothing to upload: {business.name} has no knowledge files.")
    else:
        output.note(f"{uploaded}; {plan.unchanged} were there already ({plan.store_id}).")


def _copy_of(file: KnowledgeFile, *, is_copied: bool) -> str | None:
    """Whether the AI provider has the file; None where it is none of the provider's to have."""
    if file.provider_file_id is None:
        return "no" if is_copied else None
    return "yes" if file.is_uploaded else "an older version"
