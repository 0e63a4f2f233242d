"""The worker: claims conversations that are due and brings their turns to an end; heartbeat and sweeper included.

Wake-ups are only a hint and may be lost: the sweeper finds every conversation that is due in the database. One turn of
a conversation runs at a time, because only the holder of its lease may write.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from chatbotctl.core.errors import LeaseLost, StorageUnavailable
from chatbotctl.core.flow.fair_queue import FairQueue
from chatbotctl.core.flow.heartbeat import Heartbeat
from chatbotctl.core.flow.pipeline import run_turn
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.settle import LATER, settle_crashed
from chatbotctl.core.flow.thread_pool import start_threads
from chatbotctl.core.log import about, event, log_fault
from chatbotctl.core.records.conversation import Due
from chatbotctl.core.records.turn import Lease, Turn
from chatbotctl.core.storage import not_begun, turns
from chatbotctl.core.storage.database_faults import UnreadableRow

T = TypeVar("T")
U = TypeVar("U")


def worker_name() -> str:
    """A name for one process's claims, unique among all processes and readable in the database."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


def work_once(services: Services, conversation_id: int, *, owner: str, simulated_only: bool = False) -> float | None:
    """Claim a conversation and run its next turn.

    Arguments:
        simulated_only: leave it alone when a real customer's message is next (`simulate` answers no customers).

    Returns the seconds until it is due again, or None when nothing waits in it or somebody else has it.
    Raises StorageUnavailable.
    """
    settings = services.settings.worker

    def claimed(tx: Connection) -> Lease | None:
        return turns.claim(
            tx, conversation_id, owner=owner, lease_seconds=settings.lease_seconds, simulated_only=simulated_only
        )

    def begin() -> Turn | None:
        # Durable: who goes on after a power cut has to know that the assistant may have been asked.
        with services.database.write() as tx:
            lease = claimed(tx)
            return None if lease is None else turns.open_turn(tx, lease, one_message=settings.quiet_seconds == 0)

    def put_off(error: str) -> float | None:
        # The claim went with its transaction.
        return _put_off(services, conversation_id, claimed, error)

    turn = _guarded(begin, put_off)
    if not isinstance(turn, Turn):
        return turn
    with about(
        turn=turn.id,
        conversation=conversation_id,
        business=turn.business.name,
        sids=[message.sid for message in turn.messages],
        attempt=turn.attempts + 1,
    ):
        try:
            return _run_guarded(services, turn)
        except LeaseLost:
            event("lease_lost", level="warning")
            return None


def _run_guarded(services: Services, turn: Turn) -> float | None:
    """Run a turn, and put it off when it meets a fault of our own. Raises LeaseLost or StorageUnavailable."""

    def kept(tx: Connection) -> Lease:
        turns.check_fence(tx, turn.lease)
        return turn.lease

    def settle(error: str) -> float | None:
        event("turn_crashed", level="error", error=error)
        # What cannot be read to run the turn may be what is needed to end it.
        return _guarded(
            lambda: settle_crashed(services, turn),
            lambda again: _put_off(services, turn.lease.conversation_id, kept, again),
        )

    return _guarded(lambda: run_turn(services, turn), settle)


def _guarded(step: Callable[[], T], otherwise: Callable[[str], U]) -> T | U:
    """What `step` returns; where it meets a fault of our own, what `otherwise` does of that fault's type.

    Raises LeaseLost or StorageUnavailable.
    """
    try:
        return step()
    except Exception as error:  # the per-turn guard: one bad turn must not take the worker down
        if isinstance(error, LeaseLost | StorageUnavailable) and not isinstance(error, UnreadableRow):
            raise
        # The type alone: an exception's words may quote the customer.
        return otherwise(type(error).__name__)


def _put_off(
    services: Services, conversation_id: int, have: Callable[[Connection], Lease | None], error: str
) -> float | None:
    """Put off a conversation of whose turn nothing can be read, which would else be tried at every sweep.

    Arguments:
        have: makes sure, in the transaction that it is given, that the conversation is ours; None: it is not.
    """
    with services.database.write() as tx:
        lease = have(tx)
        if lease is None:
            return None
        seconds = not_begun.put_off(tx, lease, LATER.backoff, error=error)
    services.metrics.retried("turn")
    event("turn_not_begun", level="error", conversation=conversation_id, error=error, seconds=seconds)
    return seconds


class Worker:
    """Runs turns on a pool of threads until it is told to stop.

    While the database is away it takes no new work; the sweeper, which goes on looking, ends that.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings.worker
        self.owner = worker_name()
        self._pool = ThreadPoolExecutor(self._settings.concurrency, thread_name_prefix="turn")
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._queue = FairQueue(threads=self._settings.concurrency, share=self._settings.business_share)
        #: Conversations that are queued or running here -> whether another wake-up came meanwhile.
        self._busy: dict[int, bool] = {}
        #: Conversations whose turns are running here.
        self._running: set[int] = set()
        self._idle = threading.Condition(self._lock)
        #: More is due than had room here: the sweeper looks again as soon as there is some.
        self._left_out = False
        self._look_now = threading.Event()
        #: What the last sweep found.
        self._found: list[Due] = []
        #: The database did not answer when it was last asked.
        self._paused = False
        self._heartbeat = Heartbeat(services, self.owner, self._working_on)
        self._sweeper = threading.Thread(target=self._sweep_on, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to work; returns at once. Raises ConfigurationError when there are too few threads to be had."""
        start_threads(self._pool, self._settings.concurrency)
        self._services.wakeup.listen(handler=self.submit)
        self._heartbeat.start()
        self._sweeper.start()

    def submit(self, due: Due) -> bool:
        """Look at this conversation soon; one that is queued already is queued once.

        Returns False when there is no room for it here, or the worker takes nothing at the moment.
        """
        with self._lock:
            if self._stopping.is_set() or self._paused:
                return False
            if due.conversation_id in self._busy:
                self._busy[due.conversation_id] = True
                return True
            if not self._queue.add(due):
                self._left_out = True
                return False
            self._busy[due.conversation_id] = False
            self._hand_out()
            return True

    def drain(self, seconds: float) -> bool:
        """Take nothing new and wait for the turns in flight; what is not done by then stays stored.

        Returns whether everything in flight was finished. The heartbeat goes on until then.
        """
        with self._lock:
            self._stopping.set()
            self._queue.clear()
        self._look_now.set()
        self._services.wakeup.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._idle:
            finished = self._idle.wait_for(lambda: not self._running, timeout=seconds)
        self._heartbeat.stop()
        return finished

    @property
    def in_flight(self) -> int:
        """Turns that are running here."""
        return len(self._running)

    @property
    def paused(self) -> bool:
        """Whether it takes no work because the database is away."""
        return self._paused

    def _hand_out(self) -> None:
        """Give free threads what waits. Under the lock: `drain` takes it before it shuts the pool."""
        while (due := self._queue.take()) is not None:
            self._pool.submit(self._work, due).add_done_callback(log_fault)

    def _work(self, due: Due) -> None:
        delay: float | None = None
        with self._lock:
            if self._stopping.is_set():
                return
            self._running.add(due.conversation_id)
        try:
            with self._services.turnstile.inside():
                delay = work_once(self._services, due.conversation_id, owner=self.owner)
        except StorageUnavailable as error:
            with about(conversation=due.conversation_id):
                self._pause(error)
        finally:
            with self._idle:
                again = self._busy.pop(due.conversation_id)
                self._running.discard(due.conversation_id)
                self._queue.done(due)
                self._idle.notify_all()
                if not self._stopping.is_set():
                    self._hand_out()
                if self._left_out and self._queue.is_low:
                    self._look_now.set()
            if again:
                delay = 0.0
            if delay is not None and not self._stopping.is_set():
                self._services.wakeup.wake(due=due, delay=delay)

    def _working_on(self) -> list[int]:
        with self._lock:
            return list(self._running)

    def _pause(self, error: StorageUnavailable) -> None:
        event("storage_unavailable", level="error", reason=error.message)
        with self._lock:
            if self._paused:
                return
            self._paused = True
            # What waits here is due in the database as well; others may reach it.
            for due in self._queue.clear():
                del self._busy[due.conversation_id]
        event("worker_paused", level="error", reason="the database is away")

    def _resume(self) -> None:
        with self._lock:
            if not self._paused:
                return
            self._paused = False
        event("worker_resumed")

    def _sweep(self) -> None:
        with self._lock:
            room, full = self._queue.room, self._queue.full
            self._left_out = False
        with self._services.database.read() as tx:
            due = turns.due(tx, room, without=full)
        if self._paused and due:
            # A full disk can be read as ever, and so can a server that takes no writes.
            with self._services.database.write() as tx:
                turns.try_to_write(tx, due[0].conversation_id)
        self._resume()
        with self._lock:
            # The same once more: nothing came of it (somebody has all of it locked, say), and nothing comes of haste.
            self._left_out = len(due) == room and due != self._found
        self._found = due
        for each in due:
            self.submit(each)

    def _sweep_on(self) -> None:
        while True:
            self._look_now.wait(self._settings.sweep_seconds)
            self._look_now.clear()
            if self._stopping.is_set():
                return
            try:
                self._sweep()
            except StorageUnavailable as error:
                if not self._paused:  # told once: an outage of hours must not fill the disk with it
                    self._pause(error)
