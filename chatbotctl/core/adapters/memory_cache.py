"""The thread cache inside this process: for an embedded install, which needs no Redis.

Built by wiring when `redis.url` is unset. It is only ever a copy of what the database knows, so it may forget.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from cachetools import LRUCache

from chatbotctl.core.metrics import Metrics
from chatbotctl.core.records.conversation import CachedThread, cache_key

#: Entries. About 45 MB when full: an entry with its key and its three texts takes some 450 bytes.
MAX_ENTRIES = 100_000


class MemoryCache:
    """ports.ThreadCache in this process; beyond `max_entries` the longest unused entry is forgotten.

    `metrics` are told of every look for a thread.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._lock = threading.Lock()
        self._entries: LRUCache[str, CachedThread] = LRUCache(max_entries)

    def get(self, *, sender: str, receiver: str) -> CachedThread | None:
        """The entry, or None when there is none."""
        with self._lock:
            found: CachedThread | None = self._entries.get(cache_key(sender, receiver))
        self._metrics.cache_asked("miss" if found is None else "hit")
        return found

    def put(self, *, entries: Iterable[CachedThread]) -> int:
        """Write entries over what is there; returns how many were given."""
        written = 0
        for entry in entries:
            with self._lock:
                self._entries[entry.key] = entry
            written += 1
        return written

    def remove(self, *, keys: Sequence[str]) -> int:
        """Remove entries by key; returns how many were there."""
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def scan(self, *, keys_only: bool = False) -> Iterator[tuple[str, CachedThread | None]]:
        """Every key with its entry (with `keys_only`, None), as they stood when the scan began."""
        with self._lock:
            snapshot = list(self._entries.items())
        for key, entry in snapshot:
            yield key, None if keys_only else entry
