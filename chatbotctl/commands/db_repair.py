"""`chatbotctl db repair`: mends what `db check` finds, as far as that is safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import db_report as report
from chatbotctl.commands import output
from chatbotctl.commands.exit_codes import PROBLEMS_FOUND
from chatbotctl.commands.options import DryRunOption, YesOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.upkeep.database_findings import Finding
    from chatbotctl.core.wiring import Core


def repair(
    ctx: typer.Context,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    hold_pending: Annotated[
        bool,
        typer.Option(
            "--hold-pending",
            help="First make everything that is pending a dead letter: for a PostgreSQL database that was restored, "
            "before its servers start.",
        ),
    ] = False,
) -> None:
    """Mend what `db check` finds and can be mended. Ends with exit code 8 when anything is left.

    Servers may run meanwhile; a thread that is being worked on is left alone. No message, turn or reply is deleted, and
    nothing is sent a second time. Can be run again at any time.

    Example: chatbotctl db repair --dry-run
    """
    from chatbotctl.core.upkeep.check_database import findings
    from chatbotctl.core.upkeep.repair_database import repair as mend

    with session_of(ctx).core() as core:
        if hold_pending:
            _hold(core, yes=yes, dry_run=dry_run)
        found = findings(core.database, progress=output.progress)
        if not found:
            output.line("There is nothing to repair: the database is sound.")
            return
        report.show(found)
        mendable = [finding for finding in found if finding.kind.remedy is not None]
        if dry_run:
            output.note(f"Would mend {report.problems(mendable)} of {report.problems(found)}.")
        if dry_run or not mendable:
            raise typer.Exit(PROBLEMS_FOUND)
        output.confirm(f"Mend {report.problems(mendable)} in {core.database.described}?", yes=yes)
        left = mend(core.database, found, progress=output.progress)
    _tell(found, left)


def _tell(found: Sequence[Finding], left: Sequence[Finding]) -> None:
    def rows(findings: Sequence[Finding]) -> set[tuple[object, ...]]:
        return {(finding.code, finding.table, each) for finding in findings for each in finding.places}

    mended = len(rows(found) - rows(left))
    output.line(f"Mended {mended:,} problem{'' if mended == 1 else 's'}.")
    if not left:
        return
    output.line(f"{report.problems(left)} left:")
    report.show(left)
    if any(finding.kind.remedy is not None for finding in left):
        output.note("What could be mended and is left is being worked on at the moment: run it again in a while.")
    raise typer.Exit(PROBLEMS_FOUND)


def _hold(core: Core, *, yes: bool, dry_run: bool) -> None:
    from chatbotctl.core.upkeep.repair_database import count_pending, hold

    threads = report.amount(count_pending(core.database), "business_clients")
    if dry_run:
        output.note(f"Would make dead letters of what is pending in {threads}, and of what Slack is owed.")
        return
    output.confirm(f"Make dead letters of what is pending in {threads}, and of what Slack is owed?", yes=yes)
    held = hold(core.database, progress=output.progress, alone=False)
    output.line(report.held(held))
    if held.busy:
        output.note(
            f"Workers are at {report.amount(held.busy, 'business_clients')}, which were left to them: stop them first.",
            style="yellow",
        )
