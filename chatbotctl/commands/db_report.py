"""How `db check` and `db repair` show what they found, to people and as JSON: ids and counts, never a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatbotctl.commands import output

if TYPE_CHECKING:
    from chatbotctl.core.upkeep.database_findings import Finding
    from chatbotctl.core.upkeep.repair_database import Held

#: Ids that are shown of a finding, to people and in JSON.
EXAMPLES, JSON_EXAMPLES = 5, 1000

#: What the rows of a table are called, one and many.
_NAMES = {
    "business_clients": ("thread", "threads"),
    "clients": ("customer", "customers"),
    "inbound_messages": ("message", "messages"),
    "outbound_messages": ("part of a reply", "parts of replies"),
    "slack_posts": ("Slack post", "Slack posts"),
    "turns": ("turn", "turns"),
}


def as_document(finding: Finding) -> dict[str, object]:
    """A finding in JSON; the shape is stable."""
    kind = finding.kind
    return {
        "code": finding.code,
        "table": finding.table,
        "count": len(finding.places),
        "ids" if finding.table else "details": list(finding.places[:JSON_EXAMPLES]),
        "problem": kind.problem,
        "repair": kind.remedy,
        "advice": kind.advice,
    }


def show(found: Sequence[Finding]) -> None:
    """Each finding: which rows, what is wrong with them, and what can be done."""
    for finding in found:
        output.line(output.safe_text(f"{finding.code}: {rows(finding)}"), style="bold")
        output.line(f"  {finding.kind.problem}")
        if finding.kind.remedy is not None:
            output.line(f"  `db repair` mends it. {finding.kind.remedy}")
        if finding.kind.advice is not None:
            output.line(f"  `db repair` cannot mend it. {finding.kind.advice}")


def rows(finding: Finding) -> str:
    """How many rows, of what, and which: `2 threads (17, 40)`."""
    shown = ", ".join(str(each) for each in finding.places[:EXAMPLES])
    if finding.table is None:
        return shown
    more = ", ..." if len(finding.places) > EXAMPLES else ""
    return f"{amount(len(finding.places), finding.table)} ({shown}{more})"


def amount(number: int, table: str) -> str:
    """`1 thread`, `2 threads`, `3 rows of credentials`."""
    one, many = _NAMES.get(table, (f"row of {table}", f"rows of {table}"))
    return f"{number:,} {one if number == 1 else many}"


def problems(found: Sequence[Finding]) -> str:
    """`1 problem`, `3 problems`: rows, and what the database says of itself."""
    number = sum(len(finding.places) for finding in found)
    return f"{number:,} problem{'' if number == 1 else 's'}"


def held(done: Held) -> str:
    """What became of what was pending."""
    if not done.threads and not done.posts:
        return "Nothing was pending in it."
    threads, posts = amount(done.threads, "business_clients"), amount(done.posts, "slack_posts")
    return (
        f"Held back: what was pending in {threads}, and {posts}. They are dead letters now (`restored`), of which "
        "nothing is sent by itself: `chatbotctl queue list --state dead` shows them. See in Slack or at Twilio what "
        "was answered since: `chatbotctl queue retry` is for what was not, `chatbotctl queue drop` for the rest."
    )
