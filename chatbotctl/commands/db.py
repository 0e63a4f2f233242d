"""`chatbotctl db ...`: the database's schema."""

from __future__ import annotations

import typer

from chatbotctl.commands import output
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of

db_app = typer.Typer(no_args_is_help=True, help="The database's schema.\n\nExample: chatbotctl db upgrade")


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
