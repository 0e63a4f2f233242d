"""Pools whose threads are all there before anything depends on them. For the worker and the Slack poster."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from chatbotctl.core.errors import ConfigurationError


def start_threads(pool: ThreadPoolExecutor, threads: int) -> None:
    """Have an idle pool start all of its threads.

    Left to itself it starts them as work comes, and where the machine has none left then (a container's limit of
    processes, say), whoever handed the work over would be hit: the sweeper, and nothing would be found any more.

    Arguments:
        threads: as many as the pool may have.

    Raises ConfigurationError when there is no room for so many.
    """
    everybody = threading.Barrier(threads + 1)
    try:
        for _ in range(threads):
            pool.submit(_wait_for, everybody)
    except RuntimeError as error:
        everybody.abort()
        raise ConfigurationError(
            f"There is no room for {threads} threads here.",
            hint="Lower worker.concurrency, or raise the limit of this user or container (ulimit -u, pids, TasksMax).",
        ) from error
    everybody.wait()


def _wait_for(everybody: threading.Barrier) -> None:
    try:
        everybody.wait()
    except threading.BrokenBarrierError:
        return
