"""The options that commands of several groups share: one wording, one spelling."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
#: For commands that need to know the customer; those that also take a thread's id have which_thread.FromOption.
SenderOption = Annotated[str, typer.Option("--from", metavar="NUMBER", help="The customer's number.")]
ReceiverOption = Annotated[
    str | None,
    typer.Option("--to", metavar="NUMBER", help="The business's number; may be left out when there is only one."),
]
