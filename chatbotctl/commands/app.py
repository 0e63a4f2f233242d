"""The root of the command line: global options, the command groups, and what becomes of an error.

An error from core is one line on stderr and an exit code (docs/errors.md). Nothing here loads an SDK, SQLAlchemy, Flask
or Redis: the commands do, once they run.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from chatbotctl import __version__
from chatbotctl.commands import output
from chatbotctl.commands.business import business_app
from chatbotctl.commands.cache import cache_app
from chatbotctl.commands.config import config_app
from chatbotctl.commands.db import db_app
from chatbotctl.commands.init import init
from chatbotctl.commands.queue import queue_app
from chatbotctl.commands.serve import serve
from chatbotctl.commands.session import Session
from chatbotctl.commands.simulate import simulate
from chatbotctl.commands.slack import slack_app
from chatbotctl.commands.thread import thread_app
from chatbotctl.commands.worker import worker
from chatbotctl.core.errors import ChatbotError

app = typer.Typer(
    name="chatbotctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Answer WhatsApp for many businesses with AI, mirrored to Slack, run from here.\n\n"
    "Start with `chatbotctl init --demo`, then `chatbotctl serve`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chatbotctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The config file to use.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only data and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also what happens on the way.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks for errors.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the global options."""
    output.be_quiet(quiet)
    session = ctx.ensure_object(Session)  # main's, which looks at it when an error has come out
    session.config, session.quiet, session.verbose, session.debug = config, quiet, verbose, debug


app.command()(init)
app.command()(serve)
app.command()(worker)
app.command()(simulate)
app.add_typer(business_app, name="business")
app.add_typer(thread_app, name="thread")
app.add_typer(queue_app, name="queue")
app.add_typer(cache_app, name="cache")
app.add_typer(slack_app, name="slack")
app.add_typer(db_app, name="db")
app.add_typer(config_app, name="config")


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Arguments:
        args: what to run instead of the process's own arguments.
    """
    session = Session()
    try:
        code = _run(session, sys.argv[1:] if args is None else args)
        output.flush()
    except ChatbotError as failure:
        if session.debug:
            traceback.print_exc()
        output.error(failure)
        return failure.exit_code
    except Exception as failure:  # noqa: BLE001 - its words may hold a customer's text: they are not shown
        if session.debug:
            traceback.print_exc()
        output.error(
            ChatbotError(
                f"Unexpected fault: {_in_words(failure)}.", hint="Run it again with --debug for the traceback."
            )
        )
        output.give_up_unwritten()
        return 1
    return code


def _run(session: Session, args: list[str]) -> int:
    """Run one command; returns the exit code that it ends with. Raises what the command raises."""
    try:
        app(args=args, prog_name="chatbotctl", obj=session)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _in_words(failure: Exception) -> str:
    """The type of a fault that nobody foresaw; of one of the system's, also what that says, and of which file."""
    kind = type(failure).__name__
    if not isinstance(failure, OSError) or failure.errno is None:
        return kind
    of_file = f", {failure.filename}" if isinstance(failure.filename, str) else ""
    return f"{kind} ({os.strerror(failure.errno)}{of_file})"
