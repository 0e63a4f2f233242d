"""`chatbotctl db restore`: a backup in the place of the database; nothing old is answered by surprise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import db_report as report
from chatbotctl.commands import output
from chatbotctl.commands.moments import lately
from chatbotctl.commands.options import YesOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.upkeep.restore_database import Backup, Restored


def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `db backup` wrote.", show_default=False)],
    yes: YesOption = False,
    keep_pending: Annotated[
        bool,
        typer.Option(
            "--keep-pending",
            help="Answer what was pending in the backup. Only when nothing has run since it was taken: customers would "
            "be answered twice.",
        ),
    ] = False,
) -> None:
    """Put a backup in the place of the database. No server may run; what was there is kept beside it.

    What was pending in the backup may have been answered since: it becomes dead letters, and nothing is sent until you
    say so. For SQLite; with PostgreSQL it names the pg_restore line to use.

    Example: chatbotctl db restore /var/backups/chatbotctl-monday.db
    """
    from chatbotctl.core.errors import RefusedError
    from chatbotctl.core.upkeep import restore_database
    from chatbotctl.core.upkeep.postgres_lines import restore_line

    with session_of(ctx).core(any_schema=True) as core:
        database = core.database
        if database.file is None:
            raise RefusedError(
                "Nothing was restored: PostgreSQL's own pg_restore does that, with all servers stopped. It takes the "
                "password from PGPASSWORD or ~/.pgpass. Then, before any server starts, run `chatbotctl db repair "
                "--hold-pending`: what was pending in the dump may have been answered since.",
                hint=restore_line(database.url, file),
            )
        with restore_database.prepared(file, database.file, progress=output.progress) as backup:
            output.note(_described(file, backup))
            output.confirm(f"Put it in the place of {database.described}?", yes=yes)
            done = restore_database.restore(backup, database.file, keep_pending=keep_pending, progress=output.progress)
    output.line(f"{database.described} is restored from {file}.")
    _advise(backup, done)


def _described(file: Path, backup: Backup) -> str:
    threads = report.amount(backup.threads, "business_clients")
    return (
        f"{file}: {threads}, last message {lately(backup.last_message_at) or 'never'}, schema {backup.schema.current}."
    )


def _advise(backup: Backup, done: Restored) -> None:
    if done.kept is not None:
        output.line(f"What was there before is kept as {done.kept}.")
    if done.held is not None:
        output.line(report.held(done.held))
    if not backup.schema.fits:
        output.note("Its schema is older than this version needs. Run `chatbotctl db upgrade` next.", style="yellow")
    output.note(
        "Businesses, their settings and credentials are those of the backup, too: look at `chatbotctl business list`. "
        "With Redis, run `chatbotctl cache rebuild`."
    )
