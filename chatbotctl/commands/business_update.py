"""`chatbotctl business update`: change what is stored about a business; it counts from the next message on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import business_options as options
from chatbotctl.commands import business_report as report
from chatbotctl.commands import business_values as values_typed
from chatbotctl.commands import output
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatbotctl.core.records.business import Business
    from chatbotctl.core.wiring import Core

#: What `--clear` stores, by the Business record's names; the option's name with `_` for `-` unless told here.
_CLEARED: Mapping[options.Clearable, tuple[str, object]] = {
    options.Clearable.INSTRUCTIONS: ("instructions", ""),
    options.Clearable.VECTOR_STORE: ("vector_store_ids", ()),
    options.Clearable.SLACK_USER: ("slack_user_ids", ()),
}


def update(
    ctx: typer.Context,
    name: options.NameOf,
    new_name: Annotated[str | None, typer.Option("--name", metavar="NEW", help="Call it so from now on.")] = None,
    number: Annotated[str | None, typer.Option("--number", metavar="NUMBER", help="Its new WhatsApp number.")] = None,
    backend: options.BackendOption = None,
    model: options.ModelOption = None,
    base_url: options.BaseUrlOption = None,
    instructions: options.InstructionsOption = None,
    instructions_file: options.InstructionsFileOption = None,
    assistant_id: options.AssistantIdOption = None,
    vector_store: options.VectorStoreOption = None,
    history: options.HistoryOption = None,
    language: options.LanguageOption = None,
    apology: options.ApologyOption = None,
    max_message_chars: options.MaxMessageCharsOption = None,
    slack_user: options.SlackUserOption = None,
    slack_layout: options.SlackLayoutOption = None,
    clear: Annotated[
        list[options.Clearable] | None,
        typer.Option(
            "--clear",
            metavar="OPTION",
            help="Take back what this option set (--clear model); may be repeated. The install's setting counts then.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a business; what you leave out stays. --vector-store and --slack-user replace all that there were.

    Example: chatbotctl business update luna --language de --clear model
    """
    from chatbotctl.core.upkeep.forget_threads import forget_threads

    typed = values_typed.Typed(
        backend=backend,
        model=model,
        base_url=base_url,
        instructions=instructions,
        instructions_file=instructions_file,
        assistant_id=assistant_id,
        vector_stores=vector_store,
        history=history,
        language=language,
        apology=apology,
        max_message_chars=max_message_chars,
        slack_users=slack_user,
        slack_layout=slack_layout,
    )
    values = _values(typed, new_name, number, clear or [])
    if not values:
        raise typer.BadParameter("nothing to change was given; --help lists what can be.")
    with session_of(ctx).core() as core:
        business, stale_keys = _store(core, name, values)
        output.note(f"Changed {business.name}: {', '.join(_named(key) for key in values)}.")
        forget_threads(stale_keys, core.shared_cache())
        report.advise(core, business)
        if as_json:
            report.show(core, business, as_json=True)


def _values(
    typed: values_typed.Typed, new_name: str | None, number: str | None, clear: list[options.Clearable]
) -> dict[str, object]:
    """All that is to be stored, by the Business record's names."""
    values = typed.values()
    if new_name is not None:
        values["name"] = values_typed.business_name(new_name)
    if number is not None:
        values["whatsapp_address"] = values_typed.number(number)
    for what in clear:
        column, empty = _CLEARED.get(what, (what.value.replace("-", "_"), None))
        if column in values:
            raise typer.BadParameter(f"--{what.value} and --clear {what.value} exclude each other.")
        values[column] = empty
    return values


def _store(core: Core, name: str, values: Mapping[str, object]) -> tuple[Business, list[str]]:
    """The changed business, and the cache keys that its old number leaves behind. Raises AlreadyExists."""
    from chatbotctl.core.storage import businesses

    with core.database.write() as tx:
        before = businesses.by_name(tx, name)
        values_typed.require_history_fits(values.get("history"), values.get("backend", before.backend))
        if "name" in values:
            values_typed.require_free(
                str(values["name"]), [known for known in businesses.listed(tx) if known.id != before.id]
            )
        moves = values.get("whatsapp_address", before.whatsapp_address) != before.whatsapp_address
        stale_keys = businesses.cache_keys(tx, before) if moves else []
        return businesses.change(tx, before, values), stale_keys


def _named(column: str) -> str:
    """A column as its option is called."""
    named = {"whatsapp_address": "number", "vector_store_ids": "vector-store", "slack_user_ids": "slack-user"}
    return named.get(column, column.replace("_", "-"))
