"""Looks through the whole database for what contradicts itself, while servers go on; changes nothing.

Read in pages, each in a short transaction that sees one moment, so that nobody waits for it and a turn in the middle of
its work is no finding. What is suspicious is looked at a second time before it is reported. Called by `db check` and
`db repair`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Table

from chatbotctl.core.storage import consistency, integrity, sqlite_files
from chatbotctl.core.storage.consistency import PROBES, Probe
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.database_findings import Finding
from chatbotctl.core.upkeep.progress import Progress

#: Rows that are looked at in one transaction: some tenths of a second at most.
PAGE = 5000
#: Suspicious rows that are looked at again in one transaction.
AGAIN = 500
#: Seconds between the two looks.
MOMENT = 1.0


def findings(database: Database, *, progress: Progress, moment: float = MOMENT) -> list[Finding]:
    """Everything that is wrong, as far as two looks tell.

    Arguments:
        moment: seconds between the two.

    Raises StorageUnavailable.
    """
    found = _of_the_database(database, progress)
    if any(finding.code == "damaged" for finding in found):
        return found  # what is read of such a file says nothing
    suspects: dict[Probe, list[int]] = {}
    for table, probes in groupby(sorted(PROBES, key=_table_name), key=lambda probe: probe.table):
        suspects.update(_look_through(database, table, list(probes), progress))
    if suspects:
        time.sleep(moment)
    return found + looked_at_again(database, suspects)


def looked_at_again(database: Database, suspects: Mapping[Probe, Sequence[int]]) -> list[Finding]:
    """What is still to be found among these rows. Raises StorageUnavailable."""
    left: dict[tuple[str, str], set[int]] = {}
    for probe in PROBES:
        ids = sorted(suspects.get(probe, ()))
        for start in range(0, len(ids), AGAIN):
            with consistency.moment(database) as tx:
                still = consistency.among(tx, probe, ids[start : start + AGAIN])
            if still:
                left.setdefault((probe.code, probe.table.name), set()).update(still)
    return [Finding(code, table, sorted(ids)) for (code, table), ids in left.items()]


def _of_the_database(database: Database, progress: Progress) -> list[Finding]:
    if database.file is not None:
        with progress("Checking the file", None, "times"):
            said = {"damaged": sqlite_files.damage(database.file)}
    else:
        with database.read() as tx:
            said = {"invalid_index": integrity.invalid_indexes(tx), "unenforced": integrity.unenforced(tx)}
    return [Finding(code, None, lines) for code, lines in said.items() if lines]


def _look_through(
    database: Database, table: Table[Any], probes: Sequence[Probe], progress: Progress
) -> dict[Probe, list[int]]:
    with database.read() as tx:
        total = consistency.count(tx, table)
    suspects: dict[Probe, list[int]] = {}
    if total == 0:
        return suspects
    after = 0
    with progress(f"Checking {table.name}", total, "rows") as advance:
        while True:
            with consistency.moment(database) as tx:
                last = consistency.last_of_page(tx, table, after=after, limit=PAGE)
                if last is None:
                    return suspects
                for probe in probes:
                    ids = consistency.in_page(tx, probe, first=after + 1, last=last)
                    if ids:
                        suspects.setdefault(probe, []).extend(ids)
            advance(min(PAGE, total))
            after = last


def _table_name(probe: Probe) -> str:
    return str(probe.table.name)
