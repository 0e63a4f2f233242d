"""Fills the thread cache from the database and removes what the database does not know, while servers go on writing.

A server commits a thread to the database first and to the cache after that. So whatever was read from one of the two
may be old by the time it is written to the other, and each step here looks again after it wrote: no entry stays behind
that is older than the database, and none that a server has just made is lost. Live keys are overwritten in place.

Memory is bounded by a page, whatever the number of conversations. To ask the database about each key of the cache would
take longer than all the writing; so sums tell first where there is anything to ask. Called by `cache rebuild`.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from chatbotctl.core.addresses import PREFIX, readable_address
from chatbotctl.core.ports import ThreadCache
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.storage import cached_threads
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.progress import Progress

#: Entries that are read, written and looked at again at a time.
PAGE = 2000
#: Parts that sets of keys are compared in: at a million keys, fifteen or so have to be looked up for each unknown one.
PARTS = 2**16

_BETWEEN = f"_{PREFIX}"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many entries were written, and how many were removed because the database does not know them."""

    written: int
    removed: int


def rebuild(database: Database, cache: ThreadCache, *, progress: Progress, dry_run: bool = False) -> Rebuilt:
    """Make `cache` hold what `database` knows, and nothing else; can be run again at any time.

    Arguments:
        dry_run: change nothing, only count.

    Raises StorageUnavailable, and OutsideError from a strict cache; what was done until then is right.
    """
    with database.read() as tx:
        total = cached_threads.count(tx)
    stored, found = _KeySums(), _KeySums()
    written, after = 0, 0
    with progress("Reading" if dry_run else "Writing", total, "entries") as advance:
        while page := _page(database, after) if dry_run else _write_page(database, cache, after):
            stored.add(entry.key for entry in page.values())
            written += len(page)
            after = max(page)
            advance(len(page))
    with progress("Looking for unknown entries", None, "keys") as advance:
        for keys in _pages(cache):
            found.add(keys)
            advance(len(keys))
    parts = stored.unlike(found)
    if not parts:
        return Rebuilt(written, removed=0)
    with progress("Counting them" if dry_run else "Removing them", None, "keys") as advance:
        removed = 0
        for keys in _pages(cache, parts):
            with database.read() as tx:
                unknown = keys - cached_threads.keys_of_customers(tx, _customers(keys))
            removed += len(unknown) if dry_run else _remove(database, cache, unknown)
            advance(len(keys))
    return Rebuilt(written, removed)


def known(database: Database, keys: Collection[str]) -> dict[int, CachedThread]:
    """Conversation id -> its entry, for those of `keys` that the database knows at this moment."""
    with database.read() as tx:
        entries = cached_threads.of_customers(tx, _customers(keys))
    return {number: entry for number, entry in entries.items() if entry.key in keys}


class _KeySums:
    """Two sets of keys are compared without holding either: by the sum of their keys' hashes, in each of many parts.

    Where the sums of a part are equal, so are its keys: of 2**48 unequal parts, one would be missed.
    """

    def __init__(self) -> None:
        self._sums = array("Q", bytes(8 * PARTS))

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            number = hash(key)
            part = number % PARTS
            self._sums[part] = (self._sums[part] + number) % 2**64

    def unlike(self, other: _KeySums) -> frozenset[int]:
        """The parts in which the two sets differ."""
        return frozenset(part for part in range(PARTS) if self._sums[part] != other._sums[part])


def _page(database: Database, after: int) -> dict[int, CachedThread]:
    with database.read() as tx:
        return cached_threads.page(tx, after=after, limit=PAGE)


def _write_page(database: Database, cache: ThreadCache, after: int) -> dict[int, CachedThread]:
    """Write the entries that follow conversation `after`, and again those that have changed since they were read."""
    page: dict[int, CachedThread] = {}
    while True:
        latest = _page(database, after)
        if not latest:
            return latest
        cache.put(entries=[entry for number, entry in latest.items() if page.get(number) != entry])
        page = latest
        with database.read() as tx:
            now = cached_threads.ai_threads(tx, after=after, upto=max(page))
        if now == {number: entry.thread_id for number, entry in page.items()}:
            return page


def _remove(database: Database, cache: ThreadCache, unknown: set[str]) -> int:
    """Remove these keys, and put back what a server has stored under one of them between the look and the removal."""
    if not unknown:
        return 0
    removed = cache.remove(keys=list(unknown))
    return removed - cache.put(entries=known(database, unknown).values())


def _customers(keys: Collection[str]) -> set[str]:
    """The customers' addresses that keys of the cache may begin with.

    An address is opaque: one that holds `_whatsapp:` itself makes its key readable in more than one way.
    """
    senders = set()
    for key in keys:
        end = key.find(_BETWEEN)
        while end > 0:
            senders.add(key[:end])
            end = key.find(_BETWEEN, end + 1)
    # What cannot be an address is in no database, and PostgreSQL would refuse to look for some of it.
    return {sender for sender in senders if sender.isprintable() or readable_address(sender) is not None}


def _pages(cache: ThreadCache, parts: frozenset[int] | None = None) -> Iterator[set[str]]:
    """The cache's keys; with `parts`, only those in these parts."""
    keys = (key for key, _ in cache.scan(keys_only=True) if parts is None or hash(key) % PARTS in parts)
    while page := set(itertools.islice(keys, PAGE)):
        yield page
