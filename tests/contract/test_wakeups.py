"""The port Wakeup: one suite for the one in this process and the one over Redis, and what only Redis can do wrong."""

from __future__ import annotations

import json
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from chatbotctl.core.adapters import huey_queue, huey_wakeup, local_wakeup
from chatbotctl.core.adapters.huey_wakeup import HueyWakeup
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from chatbotctl.core.ports import Wakeup
from chatbotctl.core.records.conversation import Due
from tests.breakable_servers import BreakableRedis
from tests.installs import eventually

CLOSED = "redis://127.0.0.1:1/0"

Make = Callable[..., HueyWakeup]


class Listener:
    """A worker that notes what it is told, and has room or none."""

    def __init__(self, *, room: bool = True) -> None:
        self.room = room
        self.heard: list[int] = []
        self.refused: list[int] = []

    def __call__(self, due: Due) -> bool:
        (self.heard if self.room else self.refused).append(due.conversation_id)
        return self.room


@pytest.fixture
def here() -> str:
    """The install of one test: what another test has closed may still be about to take a last wake-up."""
    return f"here{uuid.uuid4().hex}"


@pytest.fixture
def queue(here: str) -> str:
    """Where the install's wake-ups stand in Redis."""
    return f"huey.redis.chatbotctl_{here}"


@pytest.fixture
def make(here: str) -> Iterator[Make]:
    """Makes wake-ups over Redis, of one install unless another is named; they are closed at the end."""
    with ExitStack() as closing:

        def make(url: str, *, install: str = here, timeout_seconds: float = 0.25) -> HueyWakeup:
            made = HueyWakeup(url, timeout_seconds, install=install)
            closing.callback(made.close)
            return made

        yield make


@pytest.fixture(params=["local", "redis"])
def wakeup(request: pytest.FixtureRequest) -> Iterator[Wakeup]:
    if request.param == "local":
        made: Wakeup = LocalWakeup()
    else:
        made = request.getfixturevalue("make")(request.getfixturevalue("redis_url"))
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[BreakableRedis]:
    with BreakableRedis() as server:
        yield server


@pytest.fixture
def operator(redis_url: str) -> Iterator[redis.Redis]:
    """A person with redis-cli."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def due(conversation_id: int) -> Due:
    return Due(conversation_id, 7)


def get_through(sender: Wakeup, listener: Listener, *, seconds: float = 0.2) -> bool:
    """Whether a wake-up that is sent now is heard within so long."""
    known = len(listener.heard)
    sender.wake(due=due(1000 + known), delay=0)
    end = time.monotonic() + seconds
    while len(listener.heard) == known and time.monotonic() < end:
        time.sleep(0.005)
    return len(listener.heard) > known


# what every one does


def test_listener_is_called_for_each_wake_up_soonest_first(wakeup: Wakeup) -> None:
    listener = Listener()
    wakeup.listen(handler=listener)
    for conversation_id, delay in ((3, 0.3), (1, 0.1), (2, 0.2)):
        wakeup.wake(due=due(conversation_id), delay=delay)
    eventually(lambda: len(listener.heard) == 3)
    assert listener.heard == [1, 2, 3]


def test_nobody_is_called_too_soon(wakeup: Wakeup) -> None:
    heard: list[float] = []
    wakeup.listen(handler=lambda _: heard.append(time.monotonic()) is None)
    asked = time.monotonic()
    wakeup.wake(due=due(1), delay=0.2)
    eventually(lambda: heard)
    assert heard[0] >= asked + 0.2


def test_sooner_wake_up_overtakes_one_that_is_waited_for(wakeup: Wakeup) -> None:
    listener = Listener()
    wakeup.listen(handler=listener)
    wakeup.wake(due=due(1), delay=3600)
    wakeup.wake(due=due(2), delay=0)
    eventually(lambda: listener.heard == [2])


def test_after_close_nobody_is_called_any_more_and_its_threads_end(wakeup: Wakeup) -> None:
    before = set(threading.enumerate())
    listener = Listener()
    wakeup.listen(handler=listener)
    wakeup.wake(due=due(1), delay=0.1)
    wakeup.close()
    wakeup.close()
    wakeup.wake(due=due(2), delay=0)
    eventually(lambda: set(threading.enumerate()) <= before)
    assert listener.heard == []


def test_flood_of_wake_ups_is_bounded(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_wakeup, "MOST_PENDING", 3)
    listener = Listener()
    wakeup.listen(handler=listener)
    for conversation_id in range(10):
        wakeup.wake(due=due(conversation_id), delay=0.2)
    eventually(lambda: len(listener.heard) == 3)
    wakeup.wake(due=due(10), delay=0)
    eventually(lambda: listener.heard == [0, 1, 2, 10])


# through Redis


def test_another_process_is_woken_when_nobody_works_here(redis_url: str, make: Make) -> None:
    server, worker = make(redis_url), make(redis_url)
    listener = Listener()
    worker.listen(handler=listener)
    server.wake(due=due(1), delay=0)
    server.wake(due=due(2), delay=0.05)
    eventually(lambda: listener.heard == [1, 2])


def test_our_own_worker_comes_first_and_redis_is_not_asked(
    queue: str, redis_url: str, make: Make, operator: redis.Redis
) -> None:
    here, there = make(redis_url), make(redis_url)
    own, others = Listener(), Listener()
    here.listen(handler=own)
    there.listen(handler=others)
    for conversation_id in range(20):
        here.wake(due=due(conversation_id), delay=0)
    eventually(lambda: own.heard == list(range(20)))
    assert others.heard == []
    assert "cmdstat_lpush" not in operator.info("commandstats") or operator.llen(queue) == 0


def test_what_our_own_worker_has_no_room_for_is_taken_by_another(redis_url: str, make: Make) -> None:
    here, there = make(redis_url), make(redis_url)
    full, free = Listener(room=False), Listener()
    here.listen(handler=full)
    there.listen(handler=free)

    def are_taken() -> bool:
        missing = set(range(20)) - set(free.heard)
        for conversation_id in missing:
            # One that came back to the full worker twice is dropped: in a worker, the sweeper brings it again.
            here.wake(due=due(conversation_id), delay=0)
        return not missing

    eventually(are_taken)
    assert full.heard == []


def test_with_every_worker_full_a_wake_up_goes_round_once_and_is_left_to_the_sweepers(
    queue: str, redis_url: str, make: Make, operator: redis.Redis
) -> None:
    full = Listener(room=False)
    worker, server = make(redis_url), make(redis_url)
    worker.listen(handler=full)
    server.wake(due=due(1), delay=0)
    eventually(lambda: len(full.refused) == 2)
    server.wake(due=due(2), delay=0)
    eventually(lambda: len(full.refused) == 4)
    assert full.refused == [1, 1, 2, 2]
    assert operator.llen(queue) == 0


def test_each_wake_up_is_heard_by_one_worker(redis_url: str, make: Make) -> None:
    workers = [Listener(), Listener(), Listener()]
    for listener in workers:
        make(redis_url).listen(handler=listener)
    server = make(redis_url)
    for conversation_id in range(60):
        server.wake(due=due(conversation_id), delay=0)
    eventually(lambda: sum(len(listener.heard) for listener in workers) == 60)
    assert sorted(n for listener in workers for n in listener.heard) == list(range(60))


def test_installs_that_share_a_redis_do_not_take_each_others(here: str, redis_url: str, make: Make) -> None:
    mine, theirs = Listener(), Listener()
    make(redis_url, install=here).listen(handler=mine)
    make(redis_url, install="there").listen(handler=theirs)
    sender = make(redis_url, install=here)
    for conversation_id in range(20):
        sender.wake(due=due(conversation_id), delay=0)
    eventually(lambda: sorted(mine.heard) == list(range(20)))
    assert theirs.heard == []


def test_nothing_connects_before_there_is_something_to_do(redis_url: str, make: Make, operator: redis.Redis) -> None:
    before = operator.info("stats")["total_connections_received"]
    make(redis_url).close()
    assert operator.info("stats")["total_connections_received"] == before


def test_a_command_that_wakes_and_ends_at_once_has_woken(
    queue: str, redis_url: str, make: Make, operator: redis.Redis
) -> None:
    command = make(redis_url)
    for conversation_id in range(50):
        command.wake(due=due(conversation_id), delay=0)
    command.close()
    assert operator.llen(queue) == 50


def test_a_queue_that_nobody_takes_from_stays_small_and_is_forgotten(
    queue: str, redis_url: str, make: Make, operator: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huey_queue, "MOST_QUEUED", 5)
    sender = make(redis_url)
    for conversation_id in range(20):
        sender.wake(due=due(conversation_id), delay=0)
    sender.close()
    kept = [json.loads(entry)[0] for entry in operator.lrange(queue, 0, -1)]
    assert kept == [19, 18, 17, 16, 15], "the newest"
    assert 0 < operator.ttl(queue) <= huey_queue.FORGOTTEN_SECONDS


class Malicious:
    """What runs a command wherever it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_whoever_writes_to_the_queue_cannot_run_code_here(
    queue: str, redis_url: str, make: Make, operator: redis.Redis, tmp_path: Path
) -> None:
    marker, listener = tmp_path / "ran", Listener()
    payload = pickle.dumps(Malicious(marker))
    pickle.loads(payload)
    assert marker.exists(), "it would, where it is unpickled"
    marker.unlink()
    for _ in range(10):
        operator.lpush(queue, payload)
    with capture_logs() as logs:
        make(redis_url).listen(handler=listener)
        make(redis_url).wake(due=due(1), delay=0)
        eventually(lambda: listener.heard == [1])
    assert not marker.exists()
    assert [log["event"] for log in logs] == ["wakeup_unreadable"], "said once, not ten times"


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"[1, 7]",
        b"[1, 7, 0, 0]",
        b'["1", 7, 0]',
        b"[1.5, 7, 0]",
        b"[true, 7, 0]",
        b"[-1, 7, 0]",
        b"[null, 7, 0]",
        b'{"a": 1}',
        b"[99999999999999999999, 7, 0]",
        b"[" * 60,
        b"[1, 7, 0" + b" " * 100 + b"]",
        b"\xff\xfe",
    ],
)
def test_an_entry_that_is_no_wake_up_is_refused_and_the_next_one_is_heard(
    queue: str, redis_url: str, make: Make, operator: redis.Redis, entry: bytes
) -> None:
    operator.lpush(queue, entry)
    listener = Listener()
    make(redis_url).listen(handler=listener)
    make(redis_url).wake(due=due(1), delay=0)
    eventually(lambda: listener.heard == [1])


# what Redis can do wrong


def are_all_over(events: list[object]) -> bool:
    """Whether each outage that was said has had its end said, once."""
    return events.count("wakeups_lost") == events.count("wakeups_back")


def outage_events(logs: list[dict[str, object]]) -> list[object]:
    return [log["event"] for log in logs if str(log["event"]).startswith("wakeups_")]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_wake_ups_get_through_again_when_redis_is_back_and_it_is_said_once(
    server: BreakableRedis, make: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(huey_wakeup, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(huey_queue, "PAUSE_SECONDS", 0.1)
    sender, worker, listener = make(server.url, timeout_seconds=0.1), make(server.url, timeout_seconds=0.1), Listener()
    worker.listen(handler=listener)
    eventually(lambda: get_through(sender, listener))
    with capture_logs() as logs:
        server.kill() if how == "killed" else server.freeze()
        eventually(lambda: not get_through(sender, listener))
        eventually(lambda: len(outage_events(logs)) == 2)
        for conversation_id in range(20):
            sender.wake(due=due(conversation_id), delay=0)
            time.sleep(0.02)
        assert outage_events(logs) == ["wakeups_lost", "wakeups_lost"], "one of each process"
        server.start() if how == "killed" else server.thaw()
        eventually(lambda: get_through(sender, listener))
        # On a busy machine a tenth of a second is over soon: an outage more is said, and its end with it.
        eventually(lambda: len(outage_events(logs)) >= 4 and are_all_over(outage_events(logs)))


def test_a_redis_that_is_emptied_carries_the_next_wake_up(server: BreakableRedis, make: Make) -> None:
    sender, worker, listener = make(server.url), make(server.url), Listener()
    worker.listen(handler=listener)
    eventually(lambda: get_through(sender, listener))
    server.empty()
    eventually(lambda: get_through(sender, listener))


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_our_own_worker_is_woken_while_redis_is_away(server: BreakableRedis, make: Make, how: str) -> None:
    server.kill() if how == "killed" else server.freeze()
    here, listener = make(server.url, timeout_seconds=3.0), Listener(room=False)
    here.listen(handler=listener)
    here.wake(due=due(1), delay=0)
    eventually(lambda: listener.refused == [1])
    # Its thread waits for Redis with this one, perhaps; the next one is not kept waiting.
    listener.room = True
    assert get_through(here, listener, seconds=1.5)


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_nobody_waits_for_a_redis_that_is_away_to_wake_or_to_close(
    server: BreakableRedis, make: Make, how: str
) -> None:
    sender, worker = make(server.url), make(server.url)
    worker.listen(handler=Listener())
    server.kill() if how == "killed" else server.freeze()
    started = time.monotonic()
    for conversation_id in range(1000):
        sender.wake(due=due(conversation_id), delay=0)
    woken = time.monotonic()
    sender.close()
    worker.close()
    # A thousand timeouts would be minutes: these are bounds between a design that waits and one that does not.
    assert woken - started < 5
    assert time.monotonic() - woken < 5


def test_a_redis_that_takes_no_writes_is_said_once(server: BreakableRedis, make: Make) -> None:
    sender, worker, listener = make(server.url), make(server.url), Listener()
    worker.listen(handler=listener)
    eventually(lambda: get_through(sender, listener))
    with redis.Redis.from_url(server.url) as client, capture_logs() as logs:
        client.config_set("maxmemory", "1")
        for _ in range(3):
            assert not get_through(sender, listener)
        client.config_set("maxmemory", "0")
        eventually(lambda: get_through(sender, listener))
        eventually(lambda: "wakeups_back" in outage_events(logs))
    # By the reason: a connection that an earlier test has closed may have its last word here.
    assert [log["event"] for log in logs if log.get("reason") == "OutOfMemoryError"] == ["wakeups_lost"]


@pytest.mark.parametrize(
    "url", ["redis://localhost:port/0", "redis://localhost/0?db=x", "unix:///no/such.sock", CLOSED]
)
def test_an_impossible_url_loses_wake_ups_and_raises_nothing(make: Make, url: str) -> None:
    broken, listener = make(url), Listener()
    broken.wake(due=due(1), delay=0)
    broken.listen(handler=listener)
    broken.wake(due=due(2), delay=0)
    eventually(lambda: listener.heard == [2])


def test_threads_and_connections_do_not_grow_while_redis_comes_and_goes(
    server: BreakableRedis, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huey_wakeup, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(huey_queue, "PAUSE_SECONDS", 0.05)
    sender, worker, listener = make(server.url), make(server.url), Listener()
    worker.listen(handler=listener)
    eventually(lambda: get_through(sender, listener))
    threads = threading.active_count()
    for _ in range(3):
        server.kill()
        server.start()
        eventually(lambda: get_through(sender, listener))
    with redis.Redis.from_url(server.url) as client:
        eventually(lambda: client.info("clients")["connected_clients"] <= huey_queue.TAKERS + 2)
    eventually(lambda: threading.active_count() <= threads)
