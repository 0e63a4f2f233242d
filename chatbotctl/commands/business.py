"""`chatbotctl business ...`: the businesses of this install. Larger commands stand in files of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import business_options as options
from chatbotctl.commands import business_report as report
from chatbotctl.commands import output
from chatbotctl.commands.business_add import add
from chatbotctl.commands.business_credentials import credentials_app
from chatbotctl.commands.business_knowledge import knowledge_app
from chatbotctl.commands.business_remove import remove
from chatbotctl.commands.business_update import update
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.records.business import Business
    from chatbotctl.core.wiring import Core

business_app = typer.Typer(
    no_args_is_help=True,
    help="The businesses that this install answers for.\n\nExample: chatbotctl business add luna --number +15551234567",
)
business_app.command("add")(add)


@business_app.command("list")
def list_(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List all businesses.

    Example: chatbotctl business list --json
    """
    from chatbotctl.core.storage import businesses

    with session_of(ctx).core() as core, core.database.read() as tx:
        known = businesses.listed(tx)
    if as_json:
        output.json_document([report.as_listed(business) for business in known])
        return
    if not known:
        output.note("There is no business yet. Try: chatbotctl business add NAME --number +15551234567")
        return
    output.table(
        ("NAME", "NUMBER", "STATE", "BACKEND", "MODEL", "LANGUAGE"),
        [
            (each.name, each.whatsapp_address, report.state(each), each.backend.value, each.model, each.language)
            for each in known
        ],
    )


@business_app.command()
def show(ctx: typer.Context, name: options.NameOf, as_json: JsonOption = False) -> None:
    """Show all that is stored about a business; never a secret.

    Example: chatbotctl business show luna
    """
    with session_of(ctx).core() as core:
        report.show(core, _find(core, name), as_json=as_json)


business_app.command("update")(update)


@business_app.command()
def enable(ctx: typer.Context, name: options.NameOf) -> None:
    """Answer for a business again.

    Example: chatbotctl business enable luna
    """
    from chatbotctl.core.storage import businesses

    with session_of(ctx).core() as core:
        with core.database.write() as tx:
            business = businesses.by_name(tx, name)
            businesses.set_disabled(tx, business, disabled=False)
            after = businesses.get(tx, business.id)
        output.note(f"Enabled {name}." if business.is_disabled else f"{name} is enabled already.")
        report.advise(core, after)


@business_app.command()
def disable(
    ctx: typer.Context,
    name: options.NameOf,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for your colleagues; customers never see it.")
    ] = None,
) -> None:
    """Stop answering for a business: its messages are refused, and replies under way are withdrawn.

    Nothing is deleted; `business enable` undoes it.

    Example: chatbotctl business disable luna --reason "closed in January"
    """
    from chatbotctl.commands.business_values import one_line_reason
    from chatbotctl.core.storage import businesses

    why = None if reason is None else one_line_reason(reason)
    with session_of(ctx).core() as core, core.database.write() as tx:
        business = businesses.by_name(tx, name)
        businesses.set_disabled(tx, business, disabled=True, reason=why or business.disabled_reason)
    if business.is_disabled:
        output.note(f"{name} is disabled already{'; the reason is changed' if why else ''}.")
    else:
        output.note(f"Disabled {name}: its messages are refused, and replies under way are withdrawn.")
        output.note(f"Undo it with: chatbotctl business enable {name}")


business_app.command("remove")(remove)
business_app.add_typer(credentials_app, name="credentials")
business_app.add_typer(knowledge_app, name="knowledge")


def _find(core: Core, name: str) -> Business:
    from chatbotctl.core.storage import businesses

    with core.database.read() as tx:
        return businesses.by_name(tx, name)
