"""`chatbotctl business credentials ...`: a business's own keys, encrypted at rest.

A secret is never shown, never a flag, and never in an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from chatbotctl.commands import business_options as options
from chatbotctl.commands import moments, output
from chatbotctl.commands.options import DryRunOption, JsonOption, YesOption
from chatbotctl.commands.session import session_of

#: Characters that any vendor's key stays far below.
LONGEST_SECRET = 1000
#: Provider -> what its secret looks like: only what all of a vendor's keys have in common, because the rest changes.
_SHAPES = {
    "openai": re.compile(r"[!-~]+"),
    "twilio": re.compile(r"AC[0-9a-fA-F]{32}:[!-9;-~]+"),
    "slack": re.compile(r"xox[a-z][.-][A-Za-z0-9.-]+"),
}

credentials_app = typer.Typer(
    no_args_is_help=True,
    help="A business's own credentials, where it does not use the install's.\n\n"
    "Example: chatbotctl business credentials set luna openai",
)

_Provider = Annotated[
    str,
    typer.Argument(
        metavar="PROVIDER",
        help="openai, twilio or slack.",
        autocompletion=lambda incomplete: [known for known in _SHAPES if known.startswith(incomplete)],
    ),
]


@credentials_app.command("set")
def set_(
    ctx: typer.Context,
    name: options.NameOf,
    provider: _Provider,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read it from this file instead of asking for it.")
    ] = None,
) -> None:
    """Store or replace a secret: asked for on a terminal, else read from stdin or from --file.

    Example: chatbotctl business credentials set luna twilio < token.txt
    """
    from chatbotctl.core.storage import businesses
    from chatbotctl.core.storage.credentials import PROVIDERS

    _require_known(provider)
    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
        # Before anybody is asked for a secret: without a key it could not be stored.
        vault = core.vault
        prompt = f"{provider} credentials of {name}: {PROVIDERS[provider]}"
        secret = _checked(provider, output.ask_secret(prompt) if file is None else _read(file))
        with core.database.write() as tx:
            vault.store(tx, business, provider, secret)
        had = provider in business.own_credentials
        output.note(f"{'Replaced' if had else 'Stored'} the {provider} credentials of {name}.")


@credentials_app.command("list")
def list_(ctx: typer.Context, name: options.NameOf, as_json: JsonOption = False) -> None:
    """List which providers a business has its own credentials for; never the secrets.

    Example: chatbotctl business credentials list luna
    """
    from chatbotctl.core.storage import businesses, credentials

    with session_of(ctx).core() as core, core.database.read() as tx:
        stored = credentials.listed(tx, businesses.by_name(tx, name))
    if as_json:
        output.json_document([{"provider": provider, "set_at": moments.iso(at)} for provider, at in stored])
    elif stored:
        output.table(("PROVIDER", "SET"), [(provider, moments.lately(at)) for provider, at in stored])
    else:
        output.note(f"{name} has no credentials of its own: it uses the install's.")


@credentials_app.command()
def remove(
    ctx: typer.Context,
    name: options.NameOf,
    provider: _Provider,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Forget a secret; the install's own is used from then on.

    Example: chatbotctl business credentials remove luna openai
    """
    from chatbotctl.core.errors import NotFoundError
    from chatbotctl.core.storage import businesses, credentials

    _require_known(provider)
    with session_of(ctx).core() as core:
        with core.database.read() as tx:
            business = businesses.by_name(tx, name)
        if provider not in business.own_credentials:
            raise NotFoundError(
                f"{name} has no {provider} credentials of its own.",
                hint=f"`chatbotctl business credentials list {name}` shows what it has.",
            )
        if dry_run:
            output.note(f"Would remove the {provider} credentials of {name}.")
            return
        output.confirm(f"Remove the {provider} credentials of {name}?", yes=yes)
        with core.database.write() as tx:
            credentials.remove(tx, business, provider)
        output.note(f"Removed the {provider} credentials of {name}.")


def _require_known(provider: str) -> None:
    from chatbotctl.core.errors import RefusedError

    if provider not in _SHAPES:
        raise RefusedError(f"There are no credentials for {provider!r}.", hint=f"Use one of: {', '.join(_SHAPES)}.")


def _read(file: Path) -> str:
    """The secret in a file, without the line end that editors leave. Raises NotFoundError or RefusedError."""
    from chatbotctl.core.upkeep.operator_file import read_at_most

    return read_at_most(file, LONGEST_SECRET + 2).decode("ascii", errors="replace").strip()


def _checked(provider: str, secret: str) -> str:
    """`secret`, when it looks like one of the provider's. Raises RefusedError, which never quotes it."""
    from chatbotctl.core.errors import RefusedError
    from chatbotctl.core.storage.credentials import PROVIDERS

    if not secret:
        raise RefusedError("No secret was given.", hint="Type it when you are asked, pipe it in, or use --file.")
    if len(secret) > LONGEST_SECRET or not _SHAPES[provider].fullmatch(secret):
        raise RefusedError(
            f"That does not look like {provider} credentials (it is not shown here).",
            hint=f"Give {PROVIDERS[provider]}, without spaces around or inside.",
        )
    return secret
