"""Those who do a process's work, its worker and its Slack poster: started together, drained together, by one rule.

`serve` has a crew beside its server, `worker` has nothing else. How a signal stops a process, and how a process ends
whose threads are held up, stands here too, so that both do the same.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.slack_poster import SlackPoster
from chatbotctl.core.flow.worker import Worker
from chatbotctl.core.log import event
from chatbotctl.core.storage import migrate

#: What a process that could not finish its turns ends with: they stay stored, but somebody waits for them.
UNFINISHED_EXIT_CODE = 1


class Crew:
    """A worker and a Slack poster. They begin with `start` and end with `drain`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.worker = Worker(services)
        self._poster = SlackPoster(services)
        #: After `drain`: posts to Slack are still under way, which hangs perhaps.
        self.is_still_posting = False

    def start(self) -> None:
        """Begin to work; returns at once."""
        self.worker.start()
        self._poster.start()

    def drain(self, seconds: float, *, between: Callable[[], None] = lambda: None) -> bool:
        """Take nothing new, and let what is under way come to its end; what is left stays stored, or owed to Slack.

        Arguments:
            seconds: for turns and posts together.
            between: called when no turn runs any more, before the posts are waited for.

        Returns whether every turn in flight was finished.
        """
        end = time.monotonic() + seconds
        finished = self.worker.drain(seconds)
        between()
        self.is_still_posting = not self._poster.drain(max(0.0, end - time.monotonic()))
        return finished


def work(
    crew: Crew, *, on_ready: Callable[[str], None] = lambda _: None, on_drain: Callable[[], None] = lambda: None
) -> None:
    """Have a crew run turns and post to Slack until SIGTERM or SIGINT, then drain, and return.

    Call it in the main thread.

    The first signal stops taking work: what is under way has `server.drain_seconds` to finish. How the process ends
    when that is not enough: `end_if_held_up`. A second signal ends it at once.

    Arguments:
        on_ready: called with the worker's name, as the database has it, once it works.
        on_drain: called when the first signal has come.

    Raises SchemaMismatch, StorageUnavailable.
    """
    migrate.require_fitting(crew.services.database)
    stopping = threading.Event()
    with stopped_by_signals(stopping.set):
        crew.start()
        event("working", worker=crew.worker.owner, concurrency=crew.services.settings.worker.concurrency)
        on_ready(crew.worker.owner)
        stopping.wait()
        on_drain()
        seconds = crew.services.settings.server.drain_seconds
        event("draining", seconds=seconds)
        finished = crew.drain(seconds)
        event("drained", finished=finished)
    end_if_held_up(finished=finished, is_still_posting=crew.is_still_posting)


def end_if_held_up(*, finished: bool, is_still_posting: bool) -> None:
    """End the process when threads that are still at work would hold it; returns when there are none.

    With UNFINISHED_EXIT_CODE when turns are in flight, with 0 when only posts to Slack are: those stay owed, and nobody
    waits for them.
    """
    if finished and not is_still_posting:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if finished else UNFINISHED_EXIT_CODE)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop` while the block lasts; a second one ends the process."""
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
