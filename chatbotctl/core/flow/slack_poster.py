"""Posts what Slack is owed: in order per channel, at Slack's pace, patiently. Off the customer's path altogether.

The first post of a conversation makes its place (a channel, or a Slack thread in the business's channel). A post that
Slack refuses for good is a dead letter; everything else is kept until Slack takes it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

from chatbotctl.core.errors import (
    ConfigurationError,
    LeaseLost,
    MirrorError,
    NotFoundError,
    OutsideError,
    StorageUnavailable,
)
from chatbotctl.core.failpoints import reach
from chatbotctl.core.flow.keep_writing import keep_writing
from chatbotctl.core.flow.retry_policy import PutOff
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.slack_place import NO_THREAD_YET, Standing, find_or_make, forget, lease_seconds
from chatbotctl.core.flow.slack_words import post_of
from chatbotctl.core.flow.thread_pool import start_threads
from chatbotctl.core.log import about, event, log_fault
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.storage import slack_posts

#: Lanes that are posted to at once. Slack limits each channel, not their number.
POSTERS = 8
#: When a post that Slack could not take is tried again.
LATER = PutOff(first=1.0, longest=300.0)
#: Times that a post may meet a fault of our own before it is a dead letter, which lets its lane go on.
CRASHES = 5
#: Posts that are looked up at once. They are claimed one by one: between the looks, the write lock is held for moments.
BATCH = 200
#: Seconds between looks while nothing is owed.
IDLE_SECONDS = 0.5


class SlackPoster:
    """Posts on threads of its own until it is told to stop."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pace = 1.0 / services.settings.slack.posts_per_second
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(POSTERS, thread_name_prefix="slack")
        self._room = threading.Semaphore(POSTERS)
        #: Posts that were due and first in their lanes at the last look: one for each lane.
        self._due: deque[int] = deque()
        self._lock = threading.Lock()
        #: Lane -> monotonic time from which it may be posted to again.
        self._free_at: dict[str, float] = {}
        #: Post -> how often it met a fault of our own here.
        self._crashes: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run, name="slack-poster", daemon=True)

    def start(self) -> None:
        """Begin to post; returns at once. Raises ConfigurationError when there are too few threads to be had."""
        start_threads(self._pool, POSTERS)
        self._thread.start()

    def drain(self, seconds: float) -> bool:
        """Take nothing new and wait for the posts under way; what is owed stays owed.

        Returns whether everything under way was finished. What was not holds a thread, which Python waits for.
        """
        self._stopping.set()
        end = time.monotonic() + seconds
        finished = all(self._room.acquire(timeout=max(0.0, end - time.monotonic())) for _ in range(POSTERS))
        self._pool.shutdown(wait=False, cancel_futures=True)
        return finished

    def _run(self) -> None:
        is_away = False
        while not self._stopping.is_set():
            self._room.acquire()
            post = None
            try:
                post = self._claim()
                is_away = False
            except StorageUnavailable as error:
                if not is_away:  # told once: an outage of hours must not fill the disk with it
                    event("storage_unavailable", level="error", reason=error.message)
                is_away = True
            if post is None:
                self._room.release()
                self._stopping.wait(IDLE_SECONDS)
            else:
                self._pool.submit(self._post, post).add_done_callback(partial(self._done, post))

    def _claim(self) -> OwedPost | None:
        if not self._due:
            self._look()
        while self._due and not self._stopping.is_set():
            post = _claim(self._services, self._due.popleft())
            if post is not None:
                with self._lock:
                    # Until `_done` knows better: the post is committed before that, and a look may come in between.
                    self._free_at[post.lane] = time.monotonic() + lease_seconds(self._services)
                return post
        return None

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._free_at = {lane: at for lane, at in self._free_at.items() if at > now}
            busy = frozenset(self._free_at)
        with self._services.database.read() as tx:
            self._due.extend(slack_posts.due(tx, limit=BATCH, busy_lanes=busy))

    def _post(self, post: OwedPost) -> None:
        try:
            deliver_post(self._services, post, pace=self._pace)
        except StorageUnavailable as error:
            # Its lease runs out, and then it is posted again: at worst a line stands in Slack twice.
            with _about(post):
                event("storage_unavailable", level="error", reason=error.message)

    def _done(self, post: OwedPost, done: Future[None]) -> None:
        """Note when the lane is free again, and put off what met a fault that nobody foresaw."""
        with _about(post):
            log_fault(done)
            try:
                if done.cancelled() or done.exception() is None:
                    self._crashes.pop(post.id, None)
                else:
                    self._crashed(post)
            except StorageUnavailable as error:
                event("storage_unavailable", level="error", reason=error.message)
            finally:
                with self._lock:
                    self._free_at[post.lane] = time.monotonic() + self._pace
                self._room.release()

    def _crashed(self, post: OwedPost) -> None:
        crashes = self._crashes.pop(post.id, 0) + 1
        if crashes < CRASHES:
            self._crashes[post.id] = crashes
        _failed(self._services, post, MirrorError(reason="crashed", retryable=crashes < CRASHES))


def post_all(services: Services, *, conversation_id: int, seconds: float) -> bool:
    """Post what one conversation is owed, now, for at most `seconds`; returns whether nothing is left (`simulate`)."""
    end = time.monotonic() + seconds
    while (lane := _next_lane(services, conversation_id)) is not None:
        if time.monotonic() >= end:
            return False
        # Of other conversations only what stands before it in the same lane.
        post = claim_in(services, lane)
        if post is None:
            time.sleep(0.1)
            continue
        deliver_post(services, post)
    return True


def claim_in(services: Services, lane: str) -> OwedPost | None:
    """The next post of a lane, claimed; None when it is not due. Raises StorageUnavailable."""
    with services.database.read() as tx:
        post_id = slack_posts.due_in(tx, lane)
    return None if post_id is None else _claim(services, post_id)


def _claim(services: Services, post_id: int) -> OwedPost | None:
    with services.database.write() as tx:
        return slack_posts.claim(tx, post_id, lease_seconds=lease_seconds(services))


def _next_lane(services: Services, conversation_id: int) -> str | None:
    with services.database.read() as tx:
        return slack_posts.next_lane(tx, conversation_id=conversation_id)


def _about(post: OwedPost) -> AbstractContextManager[None]:
    """What events that a post causes carry; its business is known once its place is looked for."""
    return about(post=post.id, conversation=post.conversation_id, business=None, attempt=post.attempts)


def deliver_post(services: Services, owed: OwedPost, *, pace: float = 0.0) -> None:
    """Post one claimed post, or put it off, or give it up. Raises StorageUnavailable.

    Arguments:
        pace: seconds for which nobody, in whatever process, posts what stands behind it in its lane.
    """
    with _about(owed):
        _deliver(services, owed, pace)


def _deliver(services: Services, owed: OwedPost, pace: float) -> None:
    try:
        standing = find_or_make(services, owed)
        _require_held(services, owed)
        ts = _post(services, owed, standing)
    except LeaseLost:
        event("slack_lease_lost", level="warning")
    except MirrorError as error:
        _failed(services, owed, error)
    except (ConfigurationError, NotFoundError) as error:
        _failed(services, owed, MirrorError(error.message, reason=error.code, retryable=True))
    else:
        keep_writing(
            services.database,
            lambda tx: slack_posts.posted(tx, owed, ts, pace=pace),
            seconds=lease_seconds(services),
        )
        reach("mirrored")
        services.metrics.slack_post("posted")


def _require_held(services: Services, owed: OwedPost) -> None:
    """Raise LeaseLost when another poster has taken the post over, as while this process was frozen."""
    with services.database.read() as tx:
        if not slack_posts.is_held(tx, owed):
            raise LeaseLost


def _post(services: Services, owed: OwedPost, standing: Standing) -> str:
    try:
        return standing.mirror.post(place=standing.place, post=post_of(services, owed, standing))
    except MirrorError as error:
        if error.reason != "channel_gone":
            raise
        forget(services, standing)
        # Not at once: a channel that vanishes as soon as it is made must not become a thousand channels.
        raise MirrorError(error.message, reason=error.reason, retryable=True) from error


def _failed(services: Services, owed: OwedPost, error: OutsideError) -> None:
    reason = error.reason or error.code
    if error.retryable:
        wait = LATER.backoff(owed.attempts) if error.retry_after is None else LATER.asked(error.retry_after)
        # To be told when to come back is no failure: what fails later is tried again as soon as if it had never waited.
        is_attempt = error.retry_after is None or error.unknown_outcome
        if reason == NO_THREAD_YET:
            # So every new customer begins: it is no attempt, and nobody is to be warned of it.
            event("slack_postponed", level="debug", reason=reason, seconds=wait)
        else:
            services.metrics.slack_post("postponed")
            event("slack_postponed", level="warning", reason=reason, seconds=wait)
        with services.database.write() as tx:
            slack_posts.put_off(tx, owed, wait, reason, is_attempt=is_attempt)
        return
    services.metrics.slack_post("dead")
    event("slack_dead_letter", level="error", reason=reason)
    with services.database.write() as tx:
        slack_posts.give_up(tx, owed, reason)
