"""Posts what Slack is owed: in order per channel, at Slack's pace, patiently. Off the customer's path altogether.

The first post of a conversation makes its place (a channel, or a Slack thread in the business's channel). A post that
Slack refuses for good is a dead letter; everything else is kept until Slack takes it.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from chatbotctl.core.errors import ConfigurationError, MirrorError, NotFoundError, OutsideError, StorageUnavailable
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.slack_place import Standing, find_or_make, forget
from chatbotctl.core.flow.slack_words import post_of
from chatbotctl.core.log import event, log_fault
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.storage import slack_posts

#: Lanes that are posted to at once. Slack limits each channel, not their number.
POSTERS = 8
#: Seconds before a post that Slack could not take is tried again; doubled with each attempt up to the longest.
BACKOFF, LONGEST_BACKOFF = 1.0, 300.0
#: Seconds that a claimed post is left to its poster: longer than the few calls that making a channel takes.
LEASE_SECONDS = 120.0
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
        self._lock = threading.Lock()
        #: Lane -> monotonic time from which it may be posted to again.
        self._free_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="slack-poster", daemon=True)

    def start(self) -> None:
        """Begin to post; returns at once."""
        self._thread.start()

    def drain(self, seconds: float) -> None:
        """Take nothing new and wait for the posts under way; what is owed stays owed."""
        self._stopping.set()
        end = time.monotonic() + seconds
        for _ in range(POSTERS):
            if not self._room.acquire(timeout=max(0.0, end - time.monotonic())):
                break
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._room.acquire()
            post = None
            try:
                post = self._claim()
            except StorageUnavailable as error:
                event("storage_unavailable", level="error", reason=error.message)
            if post is None:
                self._room.release()
                self._stopping.wait(IDLE_SECONDS)
            else:
                self._pool.submit(self._post, post).add_done_callback(log_fault)

    def _claim(self) -> OwedPost | None:
        if self._stopping.is_set():
            return None
        now = time.monotonic()
        with self._lock:
            self._free_at = {lane: at for lane, at in self._free_at.items() if at > now}
            busy = frozenset(self._free_at)
        post = claim_post(self._services, busy)
        if post is not None:
            with self._lock:
                self._free_at[post.lane] = now + LEASE_SECONDS
        return post

    def _post(self, post: OwedPost) -> None:
        try:
            deliver_post(self._services, post)
        except StorageUnavailable as error:
            # Its lease runs out, and then it is posted again: at worst a line stands in Slack twice.
            event("storage_unavailable", level="error", post=post.id, reason=error.message)
        finally:
            with self._lock:
                self._free_at[post.lane] = time.monotonic() + self._pace
            self._room.release()


def post_all(services: Services, *, conversation_id: int, seconds: float) -> bool:
    """Post what one conversation is owed, now, for at most `seconds`; returns whether nothing is left (`simulate`)."""
    end = time.monotonic() + seconds
    while (lane := _next_lane(services, conversation_id)) is not None:
        if time.monotonic() >= end:
            return False
        # Of other conversations only what stands before it in the same lane.
        post = claim_post(services, frozenset(), lane=lane)
        if post is None:
            time.sleep(0.1)
            continue
        deliver_post(services, post)
    return True


def claim_post(services: Services, busy_lanes: frozenset[str], lane: str | None = None) -> OwedPost | None:
    """The next post that is due, in `lane` if one is named; None when there is none. Raises StorageUnavailable."""
    with services.database.read() as tx:
        if not slack_posts.is_any_due(tx, busy_lanes):
            return None
    with services.database.write() as tx:
        return slack_posts.claim_next(tx, lease_seconds=LEASE_SECONDS, busy_lanes=busy_lanes, lane=lane)


def _next_lane(services: Services, conversation_id: int) -> str | None:
    with services.database.read() as tx:
        return slack_posts.next_lane(tx, conversation_id=conversation_id)


def deliver_post(services: Services, owed: OwedPost) -> None:
    """Post one claimed post, or put it off, or give it up. Raises StorageUnavailable."""
    try:
        standing = find_or_make(services, owed)
        ts = _post(services, owed, standing)
    except MirrorError as error:
        _failed(services, owed, error)
    except (ConfigurationError, NotFoundError) as error:
        _failed(services, owed, MirrorError(error.message, reason=error.code, retryable=True))
    else:
        with services.database.write() as tx:
            slack_posts.posted(tx, owed, ts)


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
        backoff = min(BACKOFF * 2 ** min(owed.attempts - 1, 10), LONGEST_BACKOFF)
        wait = backoff if error.retry_after is None else error.retry_after
        event("slack_postponed", level="warning", post=owed.id, reason=reason, seconds=wait)
        with services.database.write() as tx:
            slack_posts.put_off(tx, owed, wait, reason)
        return
    event("slack_dead_letter", level="error", post=owed.id, conversation=owed.conversation_id, reason=reason)
    with services.database.write() as tx:
        slack_posts.give_up(tx, owed, reason)
