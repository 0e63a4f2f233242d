"""Mends what `db check` has found and can be mended; everything is asked again where the row is locked.

A thread that a worker is at is left to it. Nothing that is stored is deleted but customers whom no thread needs, and
nothing that may have been sent is sent again. Called by `db repair`, and by `db restore` for what a backup had pending.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table

from chatbotctl.core.records.turn import Failure, PartState
from chatbotctl.core.storage import consistency, mending
from chatbotctl.core.storage.consistency import PROBES
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import business_clients, clients, outbound_messages, slack_posts
from chatbotctl.core.upkeep.check_database import AGAIN, looked_at_again
from chatbotctl.core.upkeep.database_findings import Finding
from chatbotctl.core.upkeep.mend_conversation import changes, plan
from chatbotctl.core.upkeep.progress import Progress

#: What a dead letter says that was made of messages which were never brought to an end.
LEFT_BEHIND = Failure(code="left_behind", message="It was never brought to an end; `db repair` has found it.")
#: What one says that was pending in a backup.
RESTORED = Failure(code="restored", message="It was pending in a restored backup, and may have been answered since.")


@dataclass(frozen=True, slots=True)
class Held:
    """What was pending and is now left to an operator."""

    threads: int
    posts: int
    #: Threads that a worker is at: nothing was done about them.
    busy: int


class _Done(enum.Enum):
    NOTHING = enum.auto()
    CHANGED = enum.auto()
    BUSY = enum.auto()


def repair(database: Database, found: Sequence[Finding], *, progress: Progress) -> list[Finding]:
    """Mend what can be mended; returns what is left. Raises StorageUnavailable: what was done until then is right."""
    wrong = _mendable(found)
    with progress("Repairing", sum(map(len, wrong.values())), "rows") as advance:
        for conversation_id in sorted(wrong.get(business_clients.name, ())):
            with database.write() as tx:
                _put_right(tx, conversation_id, LEFT_BEHIND)
            advance(1)
        for table, mend in ((outbound_messages, mending.mend_parts), (slack_posts, mending.mend_posts)):
            for conversation_id, ids in _by_conversation(database, table, wrong.get(table.name, ())).items():
                with database.write() as tx:
                    mending.lock(tx, conversation_id)
                    mend(tx, conversation_id, ids)
                advance(len(ids))
        for portion in _portions(wrong.get(clients.name, ())):
            with database.write() as tx:
                mending.remove_clients(tx, portion)
            advance(len(portion))
    return _left(database, found, wrong)


def count_pending(database: Database) -> int:
    """In how many threads anything is under way or waiting. Raises StorageUnavailable."""
    with database.read() as tx:
        return len(mending.pending(tx, with_redo=mending.has_redo(tx)))


def hold(database: Database, *, progress: Progress, alone: bool) -> Held:
    """Make everything that is pending a dead letter: nothing is answered or posted until an operator has it so.

    For a database that was restored from a backup; works on older schemas, and can be run again.

    Arguments:
        alone: nobody else has the database: its leases are those of the moment that was backed up.

    Raises StorageUnavailable.
    """
    with database.read() as tx:
        with_redo = mending.has_redo(tx)
        pending = mending.pending(tx, with_redo=with_redo)
    done = []
    with progress("Holding what was pending", len(pending), "threads") as advance:
        for portion in _portions(pending):
            with database.write() as tx:
                done += [
                    _put_right(tx, each, RESTORED, hold=True, with_redo=with_redo, alone=alone) for each in portion
                ]
            advance(len(portion))
    with database.write() as tx:
        posts = mending.hold_posts(tx, RESTORED.code)
    return Held(done.count(_Done.CHANGED), posts, done.count(_Done.BUSY))


def _put_right(
    tx: Connection,
    conversation_id: int,
    why: Failure,
    *,
    hold: bool = False,
    with_redo: bool = True,
    alone: bool = False,
) -> _Done:
    facts = mending.facts(tx, conversation_id, with_redo=with_redo)
    if facts is None:
        return _Done.NOTHING
    if facts.is_leased and not alone:
        return _Done.BUSY
    wanted = plan(facts, hold=hold)
    if not changes(facts, wanted) and not (hold and facts.is_leased):
        return _Done.NOTHING
    unsent = PartState.UNKNOWN if hold else PartState.FAILED
    mending.mend(tx, conversation_id, wanted, why, unsent=unsent, with_redo=with_redo)
    return _Done.CHANGED


def _mendable(found: Sequence[Finding]) -> dict[str, list[int]]:
    """Table -> the ids of its rows that something can be done about."""
    wrong: dict[str, set[int]] = {}
    for finding in found:
        if finding.table is not None and finding.kind.remedy is not None:
            wrong.setdefault(finding.table, set()).update(map(int, finding.places))
    return {table: sorted(ids) for table, ids in wrong.items()}


def _left(database: Database, found: Sequence[Finding], touched: Mapping[str, Sequence[int]]) -> list[Finding]:
    """What is still wrong: with all that was found, and in whatever way with what was touched."""
    suspects = {}
    for probe in PROBES:
        table = probe.table.name
        ids = {
            int(each)
            for finding in found
            if (finding.code, finding.table) == (probe.code, table)
            for each in finding.places
        }
        suspects[probe] = sorted(ids.union(touched.get(table, ())))
    return [finding for finding in found if finding.table is None] + looked_at_again(database, suspects)


def _by_conversation(database: Database, table: Table[Any], ids: Collection[int]) -> dict[int, list[int]]:
    """Conversation -> those of `ids` that are its own."""
    owned: dict[int, list[int]] = {}
    for portion in _portions(ids):
        with database.read() as tx:
            for row_id, conversation_id in consistency.conversations_of(tx, table, portion).items():
                owned.setdefault(conversation_id, []).append(row_id)
    return owned


def _portions(ids: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), AGAIN):
        yield ordered[start : start + AGAIN]
