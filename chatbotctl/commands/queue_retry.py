"""`chatbotctl queue retry` and `queue drop`: what becomes of dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import output
from chatbotctl.commands import queue_words as words
from chatbotctl.commands.business_options import known_names, only_of
from chatbotctl.commands.options import DryRunOption, JsonOption, YesOption
from chatbotctl.commands.session import session_of

if TYPE_CHECKING:
    from chatbotctl.core.errors import ChatbotError
    from chatbotctl.core.records.backlog import EntryId
    from chatbotctl.core.upkeep.dead_letters import Retried
    from chatbotctl.core.wiring import Core

#: Letters that are named one by one; of more there are only counts, and as many reasons.
NAMED = 20

_LATE = "The answers come late, and after whatever was answered since."
_NO_WORKER = "No worker is at a turn at this moment: if none runs, start `chatbotctl serve` or `chatbotctl worker`."
_HELD = "An operator holds the thread: it waits until they give it back."


@dataclass
class _Done:
    """What became of each letter."""

    retried: dict[EntryId, Retried] = field(default_factory=dict)
    dropped: list[EntryId] = field(default_factory=list)
    left: dict[EntryId, ChatbotError] = field(default_factory=dict)

    def left_json(self) -> list[dict[str, object]]:
        return [{"id": str(id_), "code": why.code, "message": why.message} for id_, why in self.left.items()]


def retry(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="12 a turn, s12 a Slack post.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters; asks first.")] = False,
    business: Annotated[
        str | None,
        typer.Option("--business", metavar="NAME", help="With --all: only this one's.", autocompletion=known_names),
    ] = None,
    code: Annotated[
        str | None, typer.Option("--code", metavar="CODE", help="With --all: only what failed with it.")
    ] = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Have dead letters gone on with, at once and before newer messages.

    A reply that is stored is sent, without what was sent already; otherwise the assistant is asked again.

    Customers get these answers late, and after newer ones. A Slack post comes before what its channel is owed since.

    Example: chatbotctl queue retry --all --business luna-bakery --code assistant_failed
    """
    from chatbotctl.core.storage import backlog
    from chatbotctl.core.upkeep import dead_letters

    _require_ids_or_all(ids, every, business, code)
    with session_of(ctx).core(unlogged=("turn_retried", "post_retried")) as core:
        wanted = _every_dead(core, business, code) if every else [words.entry_id(typed) for typed in ids or ()]
        if every and wanted and not dry_run:
            output.confirm(f"Retry {_count(wanted)}? {_LATE}", yes=yes)
        if dry_run:
            _tell_dry_run(core, wanted, "retry", as_json=as_json)
            return
        done = _Done()
        with _each(wanted, "Retrying") as letters:
            for id_ in letters:
                _try(done, id_, lambda id_: done.retried.update({id_: dead_letters.retry(core.services, id_)}))
        if every:
            _forget_settled(core, done)
        with core.database.read() as tx:
            is_at_work = backlog.is_at_work(tx)
    if as_json:
        retried = [{"id": str(id_), "held": how.held, "asks": how.asks} for id_, how in done.retried.items()]
        output.json_document({"retried": retried, "left": done.left_json()})
    else:
        _tell_retried(done, is_at_work=is_at_work)
    _end(done, told=as_json)


def drop(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="12 a turn, s12 a Slack post.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for your colleagues; customers never see it.")
    ],
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Settle dead letters: nothing more comes of them. They stay stored, and `queue list --state dropped` shows them.

    Example: chatbotctl queue drop 12 --reason "answered by phone"
    """
    from chatbotctl.commands.business_values import one_line_reason
    from chatbotctl.core.upkeep import dead_letters

    why = one_line_reason(reason)
    wanted = [words.entry_id(typed) for typed in ids]
    with session_of(ctx).core(unlogged=("dead_letter_dropped",)) as core:
        if dry_run:
            _tell_dry_run(core, wanted, "drop", as_json=as_json)
            return
        output.confirm(f"Drop {_names(wanted)}? {_dropped_means(wanted)}", yes=yes)
        done = _Done()

        def drop_it(id_: EntryId) -> None:
            dead_letters.drop(core.services, id_, why)
            done.dropped.append(id_)

        for id_ in wanted:
            _try(done, id_, drop_it)
    if as_json:
        output.json_document({"dropped": [str(id_) for id_ in done.dropped], "left": done.left_json()})
    elif done.dropped:
        output.note(f"Dropped {_names(done.dropped)}.")
    _end(done, told=as_json)


def _require_ids_or_all(ids: list[str] | None, every: bool, business: str | None, code: str | None) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("name the dead letters either by their IDs or by --all.")
    if not every and (business is not None or code is not None):
        raise typer.BadParameter("goes with --all.", param_hint="--business" if business is not None else "--code")


def _every_dead(core: Core, business: str | None, code: str | None) -> list[EntryId]:
    from chatbotctl.core.records.backlog import Kind
    from chatbotctl.core.upkeep import dead_letters

    with core.database.read() as tx:
        only = only_of(tx, business)
    return list(dead_letters.every_dead(core.services, kinds=(Kind.TURN, Kind.SLACK), business=only, code=code))


def _try(done: _Done, id_: EntryId, act: Callable[[EntryId], None]) -> None:
    """Act on one letter; whoever else has settled it, or why it cannot be, is noted and the next one's turn."""
    from chatbotctl.core.errors import BusinessDisabled, ConflictError, NotFoundError

    try:
        act(id_)
    except (NotFoundError, ConflictError, BusinessDisabled) as failure:
        done.left[id_] = failure


def _forget_settled(core: Core, done: _Done) -> None:
    """Leave out what somebody else settled since all of it was looked up: with --all that is nobody's mistake."""
    from chatbotctl.core.storage import backlog

    with core.database.read() as tx:
        for id_ in list(done.left):
            entry = backlog.entry(tx, id_)
            if entry is None or entry.state.value != "dead":
                del done.left[id_]


@contextmanager
def _each(wanted: Sequence[EntryId], what: str) -> Iterator[Iterable[EntryId]]:
    """The letters, with progress where there are many."""
    if len(wanted) <= NAMED:
        yield wanted
        return
    with output.progress(what, total=len(wanted), unit="letters") as advance:

        def counted() -> Iterator[EntryId]:
            for id_ in wanted:
                yield id_
                advance(1)

        yield counted()


def _tell_dry_run(core: Core, wanted: Sequence[EntryId], verb: str, *, as_json: bool) -> None:
    from chatbotctl.core.storage import backlog

    with core.database.read() as tx:
        found = {id_: backlog.entry(tx, id_) for id_ in wanted}
    dead = [id_ for id_, entry in found.items() if entry is not None and entry.state.value == "dead"]
    others = [id_ for id_ in wanted if id_ not in dead]
    if as_json:
        told = {f"would_{verb}": [str(id_) for id_ in dead], "left": [str(id_) for id_ in others]}
        output.json_document({**told, "dry_run": True})
        return
    output.note(f"Would {verb} {_count(dead)}{f': {_names(dead)}' if 0 < len(dead) <= NAMED else ''}.")
    if others:
        output.note(f"No dead letter: {_names(others)}.")


def _tell_retried(done: _Done, *, is_at_work: bool) -> None:
    if not done.retried:
        if not done.left:
            output.note("There is no such dead letter.")
        return
    if len(done.retried) <= NAMED:
        for id_, how in done.retried.items():
            output.note(_how(id_, how))
    else:
        held = sum(how.held for how in done.retried.values())
        later = f", {held:,} of them once an operator gives the thread back" if held else ""
        output.note(f"{_count(list(done.retried))} are gone on with{later}.")
    if any(id_.kind.value == "turn" for id_ in done.retried):
        output.note(_LATE, style="dim")
    if not is_at_work:
        output.note(_NO_WORKER, style="yellow")


def _how(id_: EntryId, how: Retried) -> str:
    name = words.named(id_)
    name = name[0].upper() + name[1:]
    if id_.kind.value == "slack":
        return f"{name} is owed again, before whatever its channel is owed since."
    what = "the assistant is asked again" if how.asks else "what has not left of its reply is sent"
    return f"{name} is gone on with: {what}.{' ' + _HELD if how.held else ''}"


def _end(done: _Done, *, told: bool) -> None:
    """Say what was left as it is, and end with the first failure's exit code."""
    if not done.left:
        return
    if not told:
        for why in list(done.left.values())[:NAMED]:
            output.error(why)
        if len(done.left) > NAMED:
            output.note(f"And {len(done.left) - NAMED:,} more.")
    raise typer.Exit(next(iter(done.left.values())).exit_code)


def _dropped_means(ids: Sequence[EntryId]) -> str:
    if all(id_.kind.value == "slack" for id_ in ids):
        return "Slack does not get it; no customer notices."
    return "The customers get no answer."


def _names(ids: Sequence[EntryId]) -> str:
    shown = ", ".join(words.named(id_) for id_ in ids[:NAMED])
    return f"{shown} and {len(ids) - NAMED:,} more" if len(ids) > NAMED else shown


def _count(ids: Sequence[EntryId]) -> str:
    return f"{len(ids):,} dead letter{'' if len(ids) == 1 else 's'}"
