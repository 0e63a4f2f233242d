"""`chatbotctl db ...`: the database's schema, soundness and backups. Larger commands stand in files of their own."""

from __future__ import annotations

import typer

from chatbotctl.commands import output
from chatbotctl.commands.db_backup import backup
from chatbotctl.commands.db_check import check
from chatbotctl.commands.db_repair import repair
from chatbotctl.commands.db_restore import restore
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of

db_app = typer.Typer(
    no_args_is_help=True,
    help="The database: its schema, whether it is sound, its backups.\n\nExample: chatbotctl db check",
)


@db_app.command()
def upgrade(ctx: typer.Context) -> None:
    """Bring the database to the schema that this version needs. Can be run again, and by several machines at once.

    Example: chatbotctl db upgrade
    """
    from chatbotctl.core.storage import migrate

    with session_of(ctx).core(any_schema=True) as core:
        before = migrate.state(core.database)
        after = migrate.upgrade(core.database)
        where = core.database.described
    if before.fits:
        output.line(f"{where} is at schema {after.current} already.")
    else:
        output.line(f"{where} is upgraded from {before.current or 'nothing'} to schema {after.current}.")


@db_app.command()
def current(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Tell which schema the database has, and which one this version needs. Exit code 6 when they do not fit.

    Example: chatbotctl db current
    """
    from chatbotctl.core.storage import migrate

    with session_of(ctx).core(any_schema=True) as core:
        state = migrate.state(core.database)
        if as_json:
            output.json_document({"current": state.current, "wanted": state.wanted, "fits": state.fits})
        else:
            output.facts(
                {
                    "Database": core.database.described,
                    "Schema": state.current or "none",
                    "Needed": state.wanted,
                    "Fits": "yes" if state.fits else "no",
                }
            )
        migrate.require_fitting(core.database)


db_app.command()(check)
db_app.command()(repair)
db_app.command()(backup)
db_app.command()(restore)
