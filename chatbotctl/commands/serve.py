"""`chatbotctl serve`: the webhook server, with a worker and a Slack poster beside it unless others do their work."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.session import Session, session_of
from chatbotctl.core.addresses import bare


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="server.host")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port.", show_default="server.port")] = None,
    threads: Annotated[int | None, typer.Option(min=2, max=512, help="Threads.", show_default="server.threads")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Set up what is missing, with a demo business.")] = False,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker/--no-worker",
            help="Answer messages in this process too. Without, `chatbotctl worker` has to run elsewhere.",
        ),
    ] = True,
) -> None:
    """Take in WhatsApp messages from Twilio, have them answered, and mirror them to Slack.

    Example: chatbotctl serve --port 8080
    """
    from chatbotctl.server import run

    session = session_of(ctx)
    if demo:
        _set_up_demo(session)
    flags = {("server", "host"): host, ("server", "port"): port, ("server", "threads"): threads}
    loaded = session.loaded(flags)
    with session.core(flags) as core:
        has_token = core.has_auth_token()
        is_tried_out = core.is_tried_out()
        is_checked = has_token and loaded.settings.server.verify_signatures
        if is_tried_out:
            core.print_unsent(output.quote)
        session.log_events()
        run.serve(
            core,
            host=loaded.settings.server.host,
            port=loaded.settings.server.port,
            run_worker=worker,
            on_ready=lambda url: _greet(
                url, is_checked=is_checked, is_tried_out=is_tried_out, demo=demo, worker=worker
            ),
        )


def _set_up_demo(session: Session) -> None:
    from chatbotctl.core import config, secret_key
    from chatbotctl.core.storage import migrate
    from chatbotctl.core.upkeep.demo import add_demo

    secret_key.make(config.home_folder())
    with session.core(any_schema=True) as core:
        migrate.upgrade(core.database)
        add_demo(core.database)


def _greet(url: str, *, is_checked: bool, is_tried_out: bool, demo: bool, worker: bool) -> None:
    output.note(f"Serving on {url} (webhook: {url}/whatsapp). Stop with Ctrl-C.")
    if not is_checked:
        output.warning("Signatures are not checked: whoever reaches this address can write as any customer.")
    if not worker:
        output.note("Messages are only taken in here. Have them answered with: chatbotctl worker")
    elif is_tried_out:
        output.note("No Twilio account is set up: replies are printed here instead of sent.", style="yellow")
    if demo:
        _say_what_to_try(url)


def _say_what_to_try(url: str) -> None:
    from chatbotctl.core.upkeep.demo import ADDRESS, NAME

    command = "chatbotctl" if shutil.which("chatbotctl") else os.path.relpath(sys.argv[0])
    output.note(
        f"The demo business {NAME} answers on {bare(ADDRESS)}. Try, in a second terminal:\n"
        f'  {command} simulate --from +15557654321 --body "Do you deliver?"\n'
        f"  curl {url}/whatsapp --data-urlencode From=whatsapp:+15557654321 \\\n"
        f"    --data-urlencode To={ADDRESS} --data-urlencode Body='When do you open?'\n"
        f"  {command} thread show --from +15557654321"
    )
