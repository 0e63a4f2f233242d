"""The port ThreadCache: one suite for the in-process cache and for Redis, and what only Redis can do wrong."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from chatbotctl.core.adapters import redis_cache
from chatbotctl.core.adapters.memory_cache import MemoryCache
from chatbotctl.core.adapters.redis_cache import RedisCache
from chatbotctl.core.errors import ConfigurationError, OutsideError
from chatbotctl.core.ports import ThreadCache
from chatbotctl.core.records.conversation import CachedThread

BUSINESS = "whatsapp:+15550001111"


def customer(n: int) -> str:
    return f"whatsapp:+1555222{n:04d}"


def entry(n: int = 0, thread_id: str = "conv_1", receiver: str = BUSINESS) -> CachedThread:
    return CachedThread(sender=customer(n), receiver=receiver, thread_id=thread_id)


@pytest.fixture
def redis_threads(redis_url: str) -> Iterator[RedisCache]:
    cache = RedisCache(redis_url, 2.0)
    yield cache
    cache.close()


@pytest.fixture
def strict(redis_url: str) -> Iterator[RedisCache]:
    cache = RedisCache(redis_url, 2.0, strict=True)
    yield cache
    cache.close()


@pytest.fixture
def operator(redis_url: str) -> Iterator[redis.Redis]:
    """A person with redis-cli."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> ThreadCache:
    made: ThreadCache = MemoryCache() if request.param == "memory" else request.getfixturevalue("redis_threads")
    return made


# what every cache does


def test_what_was_put_is_found_and_nothing_else(cache: ThreadCache) -> None:
    assert cache.get(sender=customer(0), receiver=BUSINESS) is None
    assert cache.put(entries=[entry(0)]) == 1
    assert cache.get(sender=customer(0), receiver=BUSINESS) == entry(0)
    assert cache.get(sender=customer(1), receiver=BUSINESS) is None
    assert cache.get(sender=BUSINESS, receiver=customer(0)) is None


def test_one_customer_of_two_businesses_has_two_entries(cache: ThreadCache) -> None:
    other = "whatsapp:+15550009999"
    cache.put(entries=[entry(0, "conv_a"), entry(0, "conv_b", receiver=other)])
    found = [cache.get(sender=customer(0), receiver=receiver) for receiver in (BUSINESS, other)]
    assert [thread.thread_id for thread in found if thread] == ["conv_a", "conv_b"]


def test_a_newer_thread_replaces_the_older_one(cache: ThreadCache) -> None:
    cache.put(entries=[entry(0, "conv_old")])
    cache.put(entries=[entry(0, "conv_new")])
    found = cache.get(sender=customer(0), receiver=BUSINESS)
    assert found is not None
    assert found.thread_id == "conv_new"
    assert len(list(cache.scan())) == 1


@pytest.mark.parametrize("sender", ["whatsapp:US.1349abcDEF", "whatsapp:CC.ENT.x_y", "whatsapp:Ünï_世*?[a]"])
def test_addresses_are_any_text(cache: ThreadCache, sender: str) -> None:
    thread = CachedThread(sender=sender, receiver=BUSINESS, thread_id="conv_1")
    cache.put(entries=[thread])
    assert cache.get(sender=sender, receiver=BUSINESS) == thread
    assert list(cache.scan()) == [(thread.key, thread)]
    assert cache.remove(keys=[thread.key]) == 1


def test_a_stream_longer_than_a_batch_is_written_and_scanned_whole(cache: ThreadCache) -> None:
    count = 2 * redis_cache.BATCH + 1
    assert cache.put(entries=(entry(n, f"conv_{n}") for n in range(count))) == count
    assert dict(cache.scan()) == {entry(n).key: entry(n, f"conv_{n}") for n in range(count)}


def test_scan_of_the_keys_alone_names_all_of_them_without_their_entries(cache: ThreadCache) -> None:
    count = 2 * redis_cache.BATCH + 1
    cache.put(entries=(entry(n) for n in range(count)))
    assert dict(cache.scan(keys_only=True)) == {entry(n).key: None for n in range(count)}


def test_removed_keys_are_gone_and_only_those_that_were_there_count(cache: ThreadCache) -> None:
    cache.put(entries=[entry(n) for n in range(5)])
    assert cache.remove(keys=[entry(1).key, entry(3).key, entry(99).key]) == 2
    assert cache.remove(keys=[entry(1).key]) == 0
    assert cache.remove(keys=[]) == 0
    assert {key for key, _ in cache.scan()} == {entry(n).key for n in (0, 2, 4)}


def test_nothing_to_put_is_fine(cache: ThreadCache) -> None:
    assert cache.put(entries=[]) == 0
    assert list(cache.scan()) == []


def test_many_threads_may_use_it_at_once(cache: ThreadCache) -> None:
    wrong: list[object] = []

    def work(n: int) -> None:
        for turn in range(20):
            cache.put(entries=[entry(n, f"conv_{turn}")])
            found = cache.get(sender=customer(n), receiver=BUSINESS)
            if found != entry(n, f"conv_{turn}"):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# in memory


def test_the_memory_cache_forgets_the_longest_unused_entry() -> None:
    cache = MemoryCache(max_entries=2)
    cache.put(entries=[entry(0), entry(1)])
    cache.get(sender=customer(0), receiver=BUSINESS)
    cache.put(entries=[entry(2)])
    assert {key for key, _ in cache.scan()} == {entry(0).key, entry(2).key}


def test_the_memory_cache_may_change_while_it_is_scanned() -> None:
    cache = MemoryCache()
    cache.put(entries=[entry(0), entry(1)])
    for key, _ in cache.scan():
        cache.remove(keys=[key])
    assert list(cache.scan()) == []


# what operators see in Redis


def test_an_operator_can_read_an_entry_with_hgetall(redis_threads: RedisCache, operator: redis.Redis) -> None:
    redis_threads.put(entries=[entry(0, "conv_1")])
    key = f"{customer(0)}_{BUSINESS}"
    assert operator.hgetall(key) == {b"from": customer(0).encode(), b"to": BUSINESS.encode(), b"thread_id": b"conv_1"}


def test_an_entry_that_an_operator_wrote_is_used(redis_threads: RedisCache, operator: redis.Redis) -> None:
    operator.hset(entry(0).key, mapping={"from": customer(0), "to": BUSINESS, "thread_id": "conv_by_hand"})
    found = redis_threads.get(sender=customer(0), receiver=BUSINESS)
    assert found == entry(0, "conv_by_hand")


def test_other_keys_of_a_shared_redis_are_left_alone(redis_threads: RedisCache, operator: redis.Redis) -> None:
    operator.set("session_1", "theirs")
    operator.hset("huey_results", mapping={"from": "a", "to": "b", "thread_id": "c"})
    redis_threads.put(entries=[entry(0)])
    assert [key for key, _ in redis_threads.scan()] == [entry(0).key]


@pytest.mark.parametrize("stored", ["text", "list", "no thread_id", "empty thread_id", "bad bytes", "another's"])
def test_what_is_not_readable_as_an_entry_is_named_by_scan_and_mended_by_put(
    redis_threads: RedisCache, operator: redis.Redis, stored: str
) -> None:
    key, fields = entry(0).key, {"from": customer(0), "to": BUSINESS, "thread_id": "conv_1"}
    match stored:
        case "text":
            operator.set(key, "x")
        case "list":
            operator.rpush(key, "x")
        case "no thread_id":
            operator.hset(key, mapping={"from": customer(0), "to": BUSINESS})
        case "empty thread_id":
            operator.hset(key, mapping=fields | {"thread_id": ""})
        case "bad bytes":
            operator.hset(key, mapping=fields | {"thread_id": b"\xff\xfe"})
        case "another's":
            operator.hset(key, mapping=fields | {"from": customer(7)})
    assert redis_threads.get(sender=customer(0), receiver=BUSINESS) is None
    assert list(redis_threads.scan()) == [(key, None)]
    assert redis_threads.put(entries=[entry(0), entry(1)]) == 2
    assert redis_threads.get(sender=customer(0), receiver=BUSINESS) == entry(0)


def test_a_key_that_is_not_even_utf8_can_be_named_and_removed(redis_threads: RedisCache, operator: redis.Redis) -> None:
    operator.set(b"whatsapp:\xff_whatsapp:\xfe", "x")
    ((key, found),) = redis_threads.scan()
    assert found is None
    assert redis_threads.remove(keys=[key]) == 1
    assert list(redis_threads.scan()) == []


def test_text_that_utf8_cannot_hold_is_neither_stored_nor_found_and_harms_nobody(redis_threads: RedisCache) -> None:
    broken = CachedThread(sender="whatsapp:\ud800", receiver=BUSINESS, thread_id="conv_1")
    assert redis_threads.put(entries=[broken, entry(1), entry(2, "\udfff")]) == 1
    assert redis_threads.get(sender=broken.sender, receiver=BUSINESS) is None
    assert redis_threads.remove(keys=[broken.key]) == 0
    assert redis_threads.get(sender=customer(1), receiver=BUSINESS) == entry(1)


def test_a_live_key_is_never_missing_while_it_is_written_again(
    redis_threads: RedisCache, operator: redis.Redis
) -> None:
    redis_threads.put(entries=[entry(0)])
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not operator.exists(entry(0).key):
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(50):
        redis_threads.put(entries=[entry(0)])
    stop.set()
    watcher.join()
    assert missing == []


def test_ping_tells_milliseconds(redis_threads: RedisCache) -> None:
    took = redis_threads.ping()
    assert took is not None
    assert took > 0


def test_a_new_connection_says_nothing_but_the_command(redis_threads: RedisCache, operator: redis.Redis) -> None:
    with operator.monitor() as monitor:
        redis_threads.get(sender=customer(0), receiver=BUSINESS)
        said = monitor.next_command()["command"]
    assert said.startswith("HMGET")


# when Redis is not well


@contextlib.contextmanager
def hung_redis() -> Iterator[tuple[str, list[socket.socket]]]:
    """Takes connections and never says a word; what connected so far."""
    connected: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connected.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", connected
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connected:
                connection.close()


def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


def test_a_dead_redis_is_an_empty_cache() -> None:
    cache = RedisCache(dead_url(), 0.25)
    assert cache.get(sender=customer(0), receiver=BUSINESS) is None
    assert cache.put(entries=[entry(0)]) == 0
    assert cache.remove(keys=[entry(0).key]) == 0
    assert cache.ping() is None


def test_a_hung_redis_is_asked_once_and_then_left_alone() -> None:
    with hung_redis() as (url, connected):
        cache = RedisCache(url, 0.05)
        started = time.monotonic()
        for n in range(200):
            assert cache.get(sender=customer(n), receiver=BUSINESS) is None
            assert cache.put(entries=[entry(n)]) == 0
        took = time.monotonic() - started
        cache.close()
    # redis-py left to itself would take 32 s for the first of these alone.
    assert took < 10
    assert len(connected) <= 1 + took / redis_cache.PAUSE_SECONDS


def test_a_wrong_service_behind_the_url_is_an_empty_cache() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        cache = RedisCache(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", 0.2)
        assert cache.get(sender=customer(0), receiver=BUSINESS) is None
        thread.join()
        cache.close()


def test_a_redis_that_comes_back_is_used_again(redis_url: str) -> None:
    cache = RedisCache(redis_url, 1.0)
    cache.put(entries=[entry(0)])
    # The connection dies, as it does when Redis restarts; and for a moment nothing can be reached.
    with redis.Redis.from_url(redis_url) as client:
        assert client.client_kill_filter(_id=cache._redis().client_id()) == 1
    cache._breaker.failed(open_seconds=3600)
    assert cache.get(sender=customer(0), receiver=BUSINESS) is None
    cache._breaker.failed(open_seconds=0)  # The pause is over.
    assert cache.get(sender=customer(0), receiver=BUSINESS) == entry(0)
    assert cache.get(sender=customer(0), receiver=BUSINESS) == entry(0)
    cache.close()


def test_a_command_that_redis_refuses_does_not_stop_the_others(
    redis_threads: RedisCache, operator: redis.Redis
) -> None:
    redis_threads.put(entries=[entry(1)])
    operator.set(entry(0).key, "another type")
    for _ in range(3):
        assert redis_threads.get(sender=customer(0), receiver=BUSINESS) is None
        assert redis_threads.get(sender=customer(1), receiver=BUSINESS) == entry(1)


@pytest.mark.parametrize("strict_one", [True, False])
def test_upkeep_hears_that_redis_is_dead_while_it_scans(strict_one: bool) -> None:
    with pytest.raises(OutsideError, match="Redis cannot be reached") as raised:
        list(RedisCache(dead_url(), 0.25, strict=strict_one).scan())
    assert raised.value.retryable
    assert raised.value.reason == "unreachable"


def test_upkeep_hears_that_redis_is_dead_while_it_writes() -> None:
    cache = RedisCache(dead_url(), 0.25, strict=True)
    for _ in range(2):
        with pytest.raises(OutsideError):
            cache.put(entries=[entry(0)])
        with pytest.raises(OutsideError):
            cache.remove(keys=["k"])
        with pytest.raises(OutsideError):
            cache.get(sender=customer(0), receiver=BUSINESS)


def test_upkeep_hears_that_redis_takes_no_more_writes(strict: RedisCache, operator: redis.Redis) -> None:
    usual = operator.config_get("maxmemory")["maxmemory"]
    operator.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutsideError, match="refused") as raised:
            strict.put(entries=[entry(0)])
    finally:
        operator.config_set("maxmemory", usual)
    assert customer(0) not in f"{raised.value.message} {raised.value.reason} {raised.value.hint}"
    assert strict.put(entries=[entry(0)]) == 1


def test_a_long_stream_is_written_in_batches_as_it_comes(strict: RedisCache, operator: redis.Redis) -> None:
    def stream() -> Iterator[CachedThread]:
        for n in itertools.count():
            if n == 2 * redis_cache.BATCH:
                # By now the first batch is in Redis: the stream is not gathered first.
                assert operator.exists(entry(0).key)
                return
            yield entry(n)

    assert strict.put(entries=stream()) == 2 * redis_cache.BATCH


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "memcached://x"])
def test_a_url_that_is_no_redis_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url"):
        RedisCache(url, 0.25)


@pytest.mark.parametrize("url", ["redis://localhost:port/0", "redis://localhost/0?db=x", "unix:///no/such.sock"])
def test_an_impossible_url_is_an_empty_cache_on_the_messages_path(url: str) -> None:
    cache = RedisCache(url, 0.25)
    assert cache.get(sender=customer(0), receiver=BUSINESS) is None
    assert cache.put(entries=[entry(0)]) == 0
