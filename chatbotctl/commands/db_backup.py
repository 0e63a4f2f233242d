"""`chatbotctl db backup`: a copy of the database, taken while servers go on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.session import session_of


def backup(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Copy the database to FILE, as it is at this moment; servers may go on writing.

    For SQLite. With PostgreSQL it names the pg_dump line to use. The key that credentials are encrypted with is not in
    it: keep that as well, and elsewhere.

    Example: chatbotctl db backup /var/backups/chatbotctl-monday.db
    """
    from chatbotctl.core import secret_key
    from chatbotctl.core.errors import RefusedError, SchemaMismatch
    from chatbotctl.core.storage import migrate
    from chatbotctl.core.upkeep.back_up import back_up
    from chatbotctl.core.upkeep.postgres_lines import dump_line

    session = session_of(ctx)
    with session.core(any_schema=True) as core:
        database = core.database
        if database.file is None:
            raise RefusedError(
                "Nothing was copied: PostgreSQL's own pg_dump does that, while servers go on. It takes the password "
                "from PGPASSWORD or ~/.pgpass.",
                hint=dump_line(database.url, file),
            )
        if not database.is_absent and migrate.state(database).current is None:
            # What `db restore` refuses must not pass for a backup.
            raise SchemaMismatch(
                f"{database.described} has no tables of chatbotctl's: there is nothing to copy.",
                hint="See that CHATBOTCTL_HOME and DATABASE_URL are those of the server.",
            )
        size = back_up(database.file, file, force=force, progress=output.progress)
        home = core.loaded.home
    output.line(f"{database.described} is copied to {file} ({size / 1e6:,.1f} MB), and the copy is sound.")
    output.note(
        f"It holds what customers wrote, and not the key that credentials are encrypted with: keep "
        f"{secret_key.place(home)} too, in another place."
    )
