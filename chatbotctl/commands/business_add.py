"""`chatbotctl business add`: a new business that this install answers for."""

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
    from chatbotctl.core.records.business import Business
    from chatbotctl.core.wiring import Core


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A short name of its own, like luna-bakery.")],
    number: Annotated[str, typer.Option("--number", metavar="NUMBER", help="Its WhatsApp number, like +15551234567.")],
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
    as_json: JsonOption = False,
) -> None:
    """Add a business. Its backend is openai unless you name another.

    Example: chatbotctl business add luna --number +15551234567 --instructions "You answer for Luna's bakery."
    """
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
    values = typed.values()
    known_as, address = values_typed.business_name(name), values_typed.number(number)
    values_typed.require_history_fits(history, backend)
    with session_of(ctx).core() as core:
        business = _store(core, known_as, address, values)
        output.note(f"Added {business.name}, {business.whatsapp_address} ({business.backend.value}).")
        report.advise(core, business)
        if as_json:
            report.show(core, business, as_json=True)


def _store(core: Core, name: str, address: str, values: dict[str, object]) -> Business:
    """Raises AlreadyExists."""
    from chatbotctl.core.storage import businesses

    with core.database.write() as tx:
        values_typed.require_free(name, businesses.listed(tx))
        return businesses.add(tx, name=name, whatsapp_address=address, values=values)
