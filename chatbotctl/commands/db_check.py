"""`chatbotctl db check`: whether the database contradicts itself; changes nothing."""

from __future__ import annotations

import typer

from chatbotctl.commands import db_report as report
from chatbotctl.commands import output
from chatbotctl.commands.exit_codes import PROBLEMS_FOUND
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of


def check(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Look through the database for what contradicts itself. Ends with exit code 8 when anything does.

    Changes nothing, and servers may run meanwhile: nobody waits for it, and a turn that is under way is no problem.

    Example: chatbotctl db check --json
    """
    from chatbotctl.core.upkeep.check_database import findings

    with session_of(ctx).core() as core:
        found = findings(core.database, progress=output.progress)
    if as_json:
        output.json_document({"ok": not found, "findings": [report.as_document(finding) for finding in found]})
    elif not found:
        output.line("The database is sound.")
    else:
        report.show(found)
    if found:
        mended = any(finding.kind.remedy is not None for finding in found)
        hint = " `chatbotctl db repair` mends what can be mended." if mended else ""
        output.note(f"Found {report.problems(found)}.{hint}")
        raise typer.Exit(PROBLEMS_FOUND)
