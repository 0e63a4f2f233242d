"""Compares the thread cache with the database, entry by entry, and changes nothing.

Every suspicion is looked into a second time before it is reported, because servers go on writing meanwhile: to the
database first, to the cache a moment later. Memory is a page and one bit per conversation. Called by `cache verify`.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chatbotctl.core.ports import ThreadCache
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.storage import cached_threads
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.progress import Progress
from chatbotctl.core.upkeep.rebuild_cache import PAGE, known


class Kind(enum.StrEnum):
    """How the cache and the database differ about one key."""

    #: The database knows a thread and the cache does not: the conversation's next message puts it there.
    MISSING = "missing"
    #: The cache has a key that the database does not know.
    STALE = "stale"
    #: Both have the key, with different threads; or what the cache has is not readable as an entry.
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not as it should be."""

    kind: Kind
    key: str
    #: What the cache has; None: nothing, or nothing that is readable as an entry.
    cached: CachedThread | None
    #: What it should have.
    stored: CachedThread | None


def differences(database: Database, cache: ThreadCache, *, progress: Progress) -> Iterator[Difference]:
    """Every difference, as it is found. Raises StorageUnavailable, and OutsideError from a strict cache."""
    seen = _Numbers()
    with progress("Reading the cache", None, "entries") as advance:
        for page in _pages(cache.scan()):
            stored = known(database, page)
            seen.add(stored)
            yield from _looked_at_again(database, cache, _suspects(page, stored.values()))
            advance(len(page))
    with database.read() as tx:
        total = cached_threads.count(tx)
    with progress("Reading the database", total, "entries") as advance:
        for stored in _stored(database):
            unseen = [entry for number, entry in stored.items() if number not in seen]
            suspects = [Difference(Kind.MISSING, entry.key, None, entry) for entry in unseen]
            yield from _looked_at_again(database, cache, suspects)
            advance(len(stored))


def _suspects(page: dict[str, CachedThread | None], stored: Iterable[CachedThread]) -> list[Difference]:
    wanted = {entry.key: entry for entry in stored}
    found = []
    for key, cached in page.items():
        if key not in wanted:
            found.append(Difference(Kind.STALE, key, cached, None))
        elif cached != wanted[key]:
            found.append(Difference(Kind.DIFFERENT, key, cached, wanted[key]))
    return found


def _looked_at_again(database: Database, cache: ThreadCache, suspects: Sequence[Difference]) -> Iterator[Difference]:
    """What a second look, at the cache and after that at the database, still finds."""
    if not suspects:
        return
    cached = [_cached_now(cache, suspect) for suspect in suspects]
    stored = {entry.key: entry for entry in known(database, {suspect.key for suspect in suspects}).values()}
    for suspect, here in zip(suspects, cached, strict=True):
        there = stored.get(suspect.key)
        unreadable = suspect.kind is not Kind.MISSING and suspect.cached is None
        if there is None:
            if here is not None or unreadable:
                yield Difference(Kind.STALE, suspect.key, here, None)
        elif here != there:
            kind = Kind.DIFFERENT if here is not None or unreadable else Kind.MISSING
            yield Difference(kind, suspect.key, here, there)


def _cached_now(cache: ThreadCache, suspect: Difference) -> CachedThread | None:
    entry = suspect.stored or suspect.cached
    return cache.get(sender=entry.sender, receiver=entry.receiver) if entry is not None else None


def _stored(database: Database) -> Iterator[dict[int, CachedThread]]:
    after = 0
    while True:
        with database.read() as tx:
            page = cached_threads.page(tx, after=after, limit=PAGE)
        if not page:
            return
        yield page
        after = max(page)


def _pages(entries: Iterator[tuple[str, CachedThread | None]]) -> Iterator[dict[str, CachedThread | None]]:
    while page := dict(itertools.islice(entries, PAGE)):
        yield page


class _Numbers:
    """A set of conversation ids in one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            missing = number // 8 + 1 - len(self._bits)
            if missing > 0:
                self._bits.extend(bytes(max(missing, len(self._bits))))
            self._bits[number // 8] |= 1 << number % 8

    def __contains__(self, number: int) -> bool:
        return number // 8 < len(self._bits) and bool(self._bits[number // 8] & 1 << number % 8)
