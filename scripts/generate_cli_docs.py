"""Writes docs/cli.md: every command's `--help`, in the order in which `chatbotctl --help` lists them.

`make docs` runs it; with `--check` it changes nothing and fails when the page is not what it would write. The texts are
Typer's own plain help at a fixed width, so that the page is the same on every machine and terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from chatbotctl.commands.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
#: Columns of the help texts.
WIDTH = 100

INTRODUCTION = """\
# Commands

Every command's own `--help`, as `make docs` writes it here: change the command, not this page.

Data goes to stdout, everything else to stderr. Every command that reads has `--json`. Global options stand before the
command (`chatbotctl --quiet thread list`). What the exit codes mean is in [errors.md](errors.md#exit-codes), where
settings come from in [settings.md](settings.md).
"""


def document() -> str:
    """The whole page."""
    sections = list(_sections(typer.main.get_command(app), None, "chatbotctl"))
    contents = "\n".join(f"- [`{path}`](#{path.replace(' ', '-')})" for path, _ in sections)
    texts = "\n".join(f"## {path}\n\n```text\n{text}\n```\n" for path, text in sections)
    return f"{INTRODUCTION}\n{contents}\n\n{texts}"


def _sections(command: Any, parent: Any, name: str) -> Iterator[tuple[str, str]]:
    """Path and help of a command and of all below it. Typer brings its own Click, whose classes have no public name."""
    # Without a markup mode Typer leaves help texts to Click: no boxes, no colours, nothing read as markup.
    command.rich_markup_mode = None
    size = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = command.context_class(command, parent=parent, info_name=name, **size, **command.context_settings)
    yield context.command_path, "\n".join(line.rstrip() for line in context.get_help().splitlines())
    for below in getattr(command, "commands", {}).values():
        if not below.hidden:
            yield from _sections(below, context, below.name)


def main(arguments: list[str]) -> int:
    """Write the page, or, with `--check`, say whether it is in step; returns the exit code."""
    wanted = document()
    if "--check" not in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write("docs/cli.md is not what the commands say of themselves: run `make docs`.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
