"""Keeps one worker's leases alive for as long as its process works on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.storage import turns


class Heartbeat:
    """Renews leases of `owner` at a third of their length, between `start` and `stop` (or in a `with` block).

    Arguments:
        working_on: the conversations whose turns are running at the moment: only their leases are renewed.
    """

    def __init__(self, services: Services, owner: str, working_on: Callable[[], Collection[int]]) -> None:
        self._database = services.database
        self._lease_seconds = services.settings.worker.lease_seconds
        self._owner = owner
        self._working_on = working_on
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; leases that are left run out by themselves."""
        self._stopped.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        is_away = False
        while not self._stopped.wait(self._lease_seconds / 3):
            try:
                with self._database.write(durable=False) as tx:
                    turns.renew(tx, self._owner, self._lease_seconds, self._working_on())
                is_away = False
            except StorageUnavailable as error:
                if not is_away:  # told once: an outage of hours must not fill the disk with it
                    event("storage_unavailable", level="error", reason=error.message)
                is_away = True
