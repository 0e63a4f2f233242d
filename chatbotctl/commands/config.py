"""`chatbotctl config ...`: which settings are in force, where each comes from, and whether they are usable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.config import Loaded
    from chatbotctl.core.wiring import Core

#: Shown instead of a secret.
_HIDDEN = "••••"
#: What a key begins with that says whose key it is, and nothing more: `sk-`, `xoxb-`.
_KIND_OF_KEY = re.compile(r"[a-z]{2,5}-")
_SECRET_IN_QUERY = re.compile(r"([?&][^=&]*(?:password|passwd|pwd|secret|token|key)[^=&]*=)[^&#]*", re.IGNORECASE)

config_app = typer.Typer(
    no_args_is_help=True, help="The settings that are in force.\n\nExample: chatbotctl config show --origin"
)


@config_app.command()
def show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting with its value; secrets are masked.

    Example: chatbotctl config show --origin
    """
    loaded = session_of(ctx).loaded()
    rows = list(_settings(loaded))
    if as_json:
        output.json_document([{"key": key, "value": value, "origin": where} for key, value, where in rows])
    elif origin:
        output.table(("SETTING", "VALUE", "ORIGIN"), [(key, _shown(value), where) for key, value, where in rows])
    else:
        output.table(("SETTING", "VALUE"), [(key, _shown(value)) for key, value, _ in rows])


@config_app.command()
def validate(ctx: typer.Context) -> None:
    """Check all settings without connecting anywhere. Ends with exit code 4 when one is wrong.

    Example: chatbotctl --config /etc/chatbotctl/config.toml config validate
    """
    from chatbotctl.core import config

    session = session_of(ctx)
    path = config.config_path(session.config)
    output.note(f"Config file: {path}" if path else "There is no config file: the environment and the defaults count.")
    # A core that is made, and connects nowhere, also reads the URLs.
    with session.core(any_schema=True) as core:
        _require_usable(core)
        output.line("Everything fits.")


def _require_usable(core: Core) -> None:
    """Look at what the settings point to. Raises ConfigurationError or SecretKeyError; what is merely odd is a note."""
    from chatbotctl.core import secret_key
    from chatbotctl.core.errors import ConfigurationError

    place = secret_key.place(core.loaded.home)
    if isinstance(place, str) or place.is_symlink() or place.exists():
        _ = core.vault  # it reads the key; an install without one is fine as long as no credentials are stored
    translate = core.settings.translate
    file = translate.credentials_file
    if file is not None and not file.is_file():
        where = core.loaded.origin("translate", "credentials_file")
        missing = f"{where}: translate.credentials_file: there is no file {file}"
        if translate.enabled and translate.endpoint is None:
            raise ConfigurationError(f"{missing}.", hint="Name a service account's key file, or unset it.")
        output.note(f"{missing}; it is not needed as long as Google Translate is not asked.", style="yellow")
    if translate.enabled and translate.target_language is None:
        output.note(
            "translate.enabled is on without translate.target_language (TARGET_LANGUAGE): only businesses with a "
            "--language of their own are translated.",
            style="yellow",
        )


def _settings(loaded: Loaded) -> Iterator[tuple[str, object, str]]:
    """Each setting as `section.key`, its masked JSON-ready value, and its origin."""
    from pydantic import SecretStr

    for section, settings in loaded.settings:
        for key, value in settings:
            shown: object
            if (section, key) == ("database", "url"):
                shown = mask_url(loaded.database_url)
            elif isinstance(value, SecretStr):
                secret = value.get_secret_value()
                shown = mask_url(secret) if key == "url" else mask_secret(secret)
            elif isinstance(value, str):
                shown = mask_url(value) if "://" in value else value
            elif isinstance(value, tuple):
                shown = list(value)
            else:
                shown = value if value is None or isinstance(value, bool | int | float) else str(value)
            yield f"{section}.{key}", shown, loaded.origin(section, key)


def mask_secret(secret: str) -> str:
    """That a secret is set, and what kind of key it is where its first letters say so: `sk-•••• (set)`."""
    kind = _KIND_OF_KEY.match(secret)
    return f"{kind[0] if kind else ''}{_HIDDEN} (set)"


def mask_url(url: str) -> str:
    """A URL without its password, and without what in its query may be one. What is no URL is hidden as a whole."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return f"{_HIDDEN} (set)"
    # From the last @ back: a password may hold an @ or a / that should have been escaped.
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{scheme}://{user}{f':{_HIDDEN}' if colon else ''}{at}{place}"
    return _SECRET_IN_QUERY.sub(rf"\g<1>{_HIDDEN}", shown)


def _shown(value: object) -> object:
    """A value as a config file would have it; an unset one stays None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value == "":
        return '""'
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return value
