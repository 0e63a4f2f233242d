"""`chatbotctl worker`: turns and posts to Slack without a webhook server, beside `serve` on this machine or others."""

from __future__ import annotations

from typing import Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.session import session_of


def worker(
    ctx: typer.Context,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=2000, help="Turns at once.", show_default="worker.concurrency")
    ] = None,
) -> None:
    """Answer messages that `serve` has taken in, and post to Slack; any number of these share the work.

    Example: chatbotctl worker --concurrency 32
    """
    from chatbotctl.server import work

    session = session_of(ctx)
    with session.core({("worker", "concurrency"): concurrency}) as core:
        is_tried_out = core.is_tried_out()
        if is_tried_out:
            core.print_unsent(output.quote)
        session.log_events()
        work.work(core, on_ready=lambda name: _greet(name, is_tried_out=is_tried_out))


def _greet(name: str, *, is_tried_out: bool) -> None:
    output.note(f"Working as {name}. Stop with Ctrl-C.")
    if is_tried_out:
        output.note("No Twilio account is set up: replies are printed here instead of sent.", style="yellow")
