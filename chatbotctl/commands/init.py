"""`chatbotctl init`: everything a new install needs on one machine: config file, key, database, perhaps a demo."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands.session import session_of


def init(
    ctx: typer.Context,
    demo: Annotated[bool, typer.Option("--demo", help="Also a demo business that answers offline.")] = False,
) -> None:
    """Make the config file, the key and the database. What is there already is left as it is.

    Example: chatbotctl init --demo
    """
    from chatbotctl.core import config, secret_key
    from chatbotctl.core.storage import migrate
    from chatbotctl.core.upkeep import config_file
    from chatbotctl.core.upkeep.demo import add_demo

    session = session_of(ctx)
    home = config.home_folder()
    path = session.config or home / "config.toml"
    output.note(f"{'Made' if config_file.make(path) else 'Kept'} the config file: {path}")
    made = secret_key.make(home)
    output.note(f"{'Made' if made else 'Kept'} the key for credentials: {secret_key.place(home)}")
    with session.core(any_schema=True) as core:
        before = migrate.state(core.database)
        after = migrate.upgrade(core.database)
        verb = "Kept" if before.fits else "Made" if before.current is None else "Upgraded"
        output.note(f"{verb} the database: {core.database.described} (schema {after.current})")
        _warn_of_readers(core.database.file)
        if demo:
            business = add_demo(core.database)
            output.note(f"Demo business: {business.name}, {business.whatsapp_address}")
    output.note("Next: `chatbotctl business add` for a business, `chatbotctl serve` to answer for it.")


def _warn_of_readers(file: Path | None) -> None:
    """Say so when others can read the database: one that was there before is left as it is."""
    if file is not None and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        output.note(
            f"Others on this machine can read {file}, and so what customers write. Try: chmod 600 {file}",
            style="yellow",
        )
