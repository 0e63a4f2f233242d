"""`chatbotctl queue ...`: what waits, runs and failed. Larger commands stand in files of their own."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import moments, output
from chatbotctl.commands import queue_words as words
from chatbotctl.commands.business_options import BusinessOption, only_of
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.queue_retry import drop, retry
from chatbotctl.commands.queue_show import show
from chatbotctl.commands.session import session_of
from chatbotctl.core.addresses import bare

if TYPE_CHECKING:
    from chatbotctl.core.records.backlog import Backlog, Depths, Entry

queue_app = typer.Typer(
    no_args_is_help=True,
    help="The queue: what waits, runs and failed, and what to do about dead letters.\n\n"
    "Example: chatbotctl queue list --state dead",
)


class ListedState(enum.StrEnum):
    """What `--state` takes."""

    WAITING = "waiting"
    RUNNING = "running"
    POSTPONED = "postponed"
    DEAD = "dead"
    DROPPED = "dropped"


class ListedKind(enum.StrEnum):
    """What `--kind` takes."""

    TURN = "turn"
    SLACK = "slack"


#: What is listed when no state is named, in this order: first what needs a person.
_UNSETTLED = (ListedState.DEAD, ListedState.POSTPONED, ListedState.RUNNING, ListedState.WAITING)


@queue_app.command()
def status(ctx: typer.Context, business: BusinessOption = None, as_json: JsonOption = False) -> None:
    """Count what waits, runs and failed, and say how old the oldest of it is.

    Example: chatbotctl queue status
    """
    from chatbotctl.core.storage import backlog

    with session_of(ctx).core() as core, core.database.read() as tx:
        counted = backlog.count(tx, only_of(tx, business))
    if as_json:
        output.json_document(_status_json(counted))
        return
    _show_depths(counted)
    workers = [f"{owner} ({leases})" for owner, leases in counted.workers.items()]
    output.note(f"At work now: {', '.join(workers)}." if workers else "No worker is at a turn at this moment.")


@queue_app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        ListedState | None,
        typer.Option("--state", help="Only what stands so.", show_default="all but dropped"),
    ] = None,
    business: BusinessOption = None,
    kind: Annotated[
        ListedKind | None, typer.Option("--kind", help="Only answers to customers, or only Slack posts.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what waits, runs or failed: dead letters first, the oldest first.

    A turn's id is a number, a Slack post's begins with s, that of a thread whose messages have no turn yet with t.

    Example: chatbotctl queue list --state dead --business luna-bakery
    """
    from chatbotctl.core.records.backlog import EntryState, Kind
    from chatbotctl.core.storage import backlog

    states = [EntryState(each.value) for each in ([state] if state else _UNSETTLED)]
    with session_of(ctx).core() as core, core.database.read() as tx:
        found = backlog.listed(
            tx,
            states=states,
            kind=Kind(kind.value) if kind else None,
            business=only_of(tx, business),
            limit=limit + 1,
        )
    shown = found[:limit]
    if as_json:
        output.json_document([as_listed(each) for each in shown])
        return
    if not shown:
        output.note("There is nothing like that." if state or business or kind else "Nothing waits, runs or failed.")
        return
    output.table(
        ("ID", "STATE", "BUSINESS", "CUSTOMER", "AGE", "TRIES", "CODE"),
        [_row(each) for each in shown],
        right=("ID", "TRIES"),
    )
    if len(found) > limit:
        output.note("There is more: --limit shows more, --state, --business and --kind less.", style="dim")


queue_app.command("show")(show)
queue_app.command("retry")(retry)
queue_app.command("drop")(drop)


def as_listed(entry: Entry) -> dict[str, object]:
    """An entry as JSON lists it; the keys are stable."""
    return {
        "id": str(entry.id),
        "kind": entry.id.kind.value,
        "state": entry.state.value,
        "held": entry.held,
        "business": entry.business_name,
        "thread": entry.conversation_id,
        "from": entry.customer,
        "since": moments.iso(entry.since),
        "age_seconds": round(entry.age, 3),
        "attempts": entry.attempts,
        "next_attempt_seconds": None if entry.next_in is None else round(entry.next_in, 3),
        "code": entry.code,
        "reason": entry.reason,
        "simulated": entry.simulated,
    }


def _row(entry: Entry) -> tuple[object, ...]:
    return (
        entry.id,
        words.state(entry),
        entry.business_name,
        bare(entry.customer),
        words.duration(entry.age),
        entry.attempts,
        entry.reason or entry.code,
    )


def _status_json(counted: Backlog) -> dict[str, object]:
    """The keys are stable."""
    return {
        **_depths_json(counted.total),
        "workers": [{"owner": owner, "leases": leases} for owner, leases in counted.workers.items()],
        "businesses": [{"business": name, **_depths_json(depths)} for name, depths in counted.businesses.items()],
    }


def _depths_json(depths: Depths) -> dict[str, object]:
    return {
        "turns": dict(depths.turns),
        "oldest_seconds": None if depths.oldest is None else round(depths.oldest, 3),
        "slack": dict(depths.slack),
        "oldest_slack_seconds": None if depths.oldest_post is None else round(depths.oldest_post, 3),
    }


def _show_depths(counted: Backlog) -> None:
    """Two small tables: one with all columns would be wider than a screen. The second where Slack is owed anything."""
    lines = [("all", counted.total)] if len(counted.businesses) != 1 else []
    lines += list(counted.businesses.items())
    output.table(
        ("BUSINESS", "WAITING", "DUE", "RUNNING", "PUT OFF", "HELD", "DEAD", "OLDEST"),
        [
            (name, *depths.turns.values(), words.duration(depths.oldest))
            for name, depths in lines
            if name == "all" or any(depths.turns.values())
        ],
        right=("WAITING", "DUE", "RUNNING", "PUT OFF", "HELD", "DEAD"),
    )
    if any(counted.total.slack.values()):
        output.line("")
        output.table(
            ("SLACK", "OWED", "POSTING", "DEAD", "OLDEST"),
            [
                (name, *depths.slack.values(), words.duration(depths.oldest_post))
                for name, depths in lines
                if any(depths.slack.values())
            ],
            right=("OWED", "POSTING", "DEAD"),
        )
