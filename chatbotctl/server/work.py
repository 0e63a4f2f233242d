"""Runs turns without a webhook: what `chatbotctl worker` calls. All that it serves is the address of its metrics."""

from __future__ import annotations

from collections.abc import Callable

from chatbotctl.core.flow import crew
from chatbotctl.core.flow.crew import Crew
from chatbotctl.core.wiring import Core
from chatbotctl.server.metrics_listener import MetricsListener


def work(core: Core, *, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Work as `crew.work` does, and answer on the address of the metrics meanwhile, where one is set.

    Arguments:
        core: stays the caller's to close.
        on_ready: called with the worker's name, as the database has it, once it works.

    Raises what `crew.work` and MetricsListener raise.
    """
    workers = Crew(core.services)
    vitals = core.make_vitals()
    vitals.worker = workers.worker
    metrics = MetricsListener(core, vitals)
    metrics.start()
    try:
        crew.work(workers, on_ready=on_ready, on_drain=vitals.drain)
    finally:
        metrics.close()
