"""`cache rebuild` and `cache verify` on both databases and a real Redis, while servers go on writing."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import insert

from chatbotctl.core.adapters.redis_cache import RedisCache
from chatbotctl.core.errors import OutsideError
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.storage import conversations
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep import rebuild_cache, verify_cache
from chatbotctl.core.upkeep.rebuild_cache import Rebuilt
from chatbotctl.core.upkeep.verify_cache import Kind
from tests import installs

BUSINESS = installs.BUSINESS


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database."""
    if request.param == "sqlite":
        url = installs.sqlite_database(tmp_path)
    else:
        url = request.getfixturevalue("postgres_store")
        installs.empty_postgres(url)
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def bakery(database: Database) -> Business:
    return installs.add_business(database)


@pytest.fixture
def operator(redis_url: str) -> Iterator[redis.Redis]:
    """A person with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class ServersWrite(RedisCache):
    """The cache with a server at work: what it does just before the rebuild's own call of that name."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 2.0, strict=True)
        self.before_put: Callable[[], None] | None = None
        self.before_remove: Callable[[], None] | None = None
        self.before_scan: Callable[[], None] | None = None
        self.after_scan: Callable[[], None] | None = None
        self.before_get: Callable[[], None] | None = None

    def put(self, *, entries: Iterable[CachedThread]) -> int:
        entries = list(entries)
        act, self.before_put = self.before_put, None
        if act is not None:
            act()
        return super().put(entries=entries)

    def remove(self, *, keys: Sequence[str]) -> int:
        act, self.before_remove = self.before_remove, None
        if act is not None:
            act()
        return super().remove(keys=keys)

    def scan(self, *, keys_only: bool = False) -> Iterator[tuple[str, CachedThread | None]]:
        act, self.before_scan = self.before_scan, None
        if act is not None:
            act()
        found = list(super().scan(keys_only=keys_only))
        act, self.after_scan = self.after_scan, None
        if act is not None:
            act()
        yield from found

    def get(self, *, sender: str, receiver: str) -> CachedThread | None:
        act, self.before_get = self.before_get, None
        if act is not None:
            act()
        return super().get(sender=sender, receiver=receiver)


@pytest.fixture
def cache(redis_url: str) -> Iterator[ServersWrite]:
    opened = ServersWrite(redis_url)
    yield opened
    opened.close()


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04d}"


def entry(number: int, thread: str | None = None) -> CachedThread:
    return CachedThread(sender=customer(number), receiver=BUSINESS, thread_id=thread or f"conv_{number}")


def key(number: int) -> str:
    return entry(number).key


def add(database: Database, business: Business, numbers: Iterable[int], *, threads: bool = True) -> None:
    """Conversations with these customers; the n-th has the id n and the thread conv_n."""
    rows = list(numbers)
    with database.write() as tx:
        tx.execute(insert(tables.clients), [{"id": number, "address": customer(number)} for number in rows])
        tx.execute(
            insert(tables.business_clients),
            [
                {
                    "id": number,
                    "business_id": business.id,
                    "client_id": number,
                    "ai_thread": f"conv_{number}" if threads else None,
                }
                for number in rows
            ],
        )


def set_thread(database: Database, number: int, thread: str) -> None:
    """What a server commits when a conversation gets a thread."""
    with database.write() as tx:
        conversations.set_ai_thread(tx, number, thread)


def reset(database: Database, number: int) -> None:
    """What `thread reset` commits."""
    with database.write() as tx:
        conversations.reset(tx, conversations.get(tx, number))


@contextmanager
def unseen(*_: object) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def rebuild(database: Database, cache: RedisCache, *, dry_run: bool = False) -> Rebuilt:
    return rebuild_cache.rebuild(database, cache, progress=unseen, dry_run=dry_run)


def verify(database: Database, cache: RedisCache) -> dict[str, Kind]:
    """Key -> how it differs."""
    found = list(verify_cache.differences(database, cache, progress=unseen))
    assert len(found) == len({difference.key for difference in found})
    return {difference.key: difference.kind for difference in found}


def stored(cache: RedisCache) -> dict[str, str | None]:
    """Key -> thread, as Redis has them."""
    return {name: found.thread_id if found else None for name, found in cache.scan()}


# what rebuild leaves behind


def test_every_thread_is_written_and_nothing_else(database: Database, bakery: Business, cache: ServersWrite) -> None:
    add(database, bakery, range(1, 6))
    add(database, bakery, [6], threads=False)
    assert rebuild(database, cache) == Rebuilt(written=5, removed=0)
    assert stored(cache) == {key(number): f"conv_{number}" for number in range(1, 6)}
    assert rebuild(database, cache) == Rebuilt(written=5, removed=0)


@pytest.mark.parametrize("page", [1, 3, 4, 12, 13])
def test_it_is_right_whatever_the_size_of_a_page(
    database: Database, bakery: Business, cache: ServersWrite, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_cache, "PAGE", page)
    monkeypatch.setattr(verify_cache, "PAGE", page)
    add(database, bakery, [*range(1, 10), 500, 501, 502])
    cache.put(entries=[entry(number) for number in range(100, 110)])
    assert rebuild(database, cache) == Rebuilt(written=12, removed=10)
    assert verify(database, cache) == {}
    assert len(stored(cache)) == 12


def test_entries_that_the_database_does_not_know_are_removed(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    add(database, bakery, [1])
    add(database, bakery, [2], threads=False)
    other = CachedThread(sender=customer(1), receiver="whatsapp:+15550009999", thread_id="conv_1")
    cache.put(entries=[entry(2), entry(3), other])
    operator.set(key(4), "not a hash")
    operator.execute_command("SET", b"whatsapp:\xff_whatsapp:\xfe", b"not even text")
    operator.set("whatsapp:_whatsapp:", "hardly a key")
    operator.set("whatsapp:+1\x00_whatsapp:+2", "with a NUL")
    assert rebuild(database, cache) == Rebuilt(written=1, removed=7)
    assert stored(cache) == {key(1): "conv_1"}


def test_keys_of_other_programs_are_left_alone(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    operator.set("session:1", "theirs")
    operator.hset("huey.results", "a", "b")
    operator.set("whatsapp:+15552220001", "half a key")
    rebuild(database, cache)
    assert sorted(operator.keys()) == ["huey.results", "session:1", "whatsapp:+15552220001"]


@pytest.mark.parametrize("wrong", ["older thread", "another type", "no thread"])
def test_wrong_entries_are_mended(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis, wrong: str
) -> None:
    add(database, bakery, [1])
    if wrong == "older thread":
        cache.put(entries=[entry(1, "conv_old")])
    elif wrong == "another type":
        operator.set(key(1), "text")
    else:
        operator.hset(key(1), mapping={"from": customer(1)})
    assert rebuild(database, cache) == Rebuilt(written=1, removed=0)
    assert stored(cache) == {key(1): "conv_1"}


def test_address_that_holds_what_stands_between_two_is_no_unknown_entry(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    odd = "whatsapp:CC.x_whatsapp:y"
    with database.write() as tx:
        tx.execute(insert(tables.clients).values(id=1, address=odd))
        tx.execute(insert(tables.business_clients).values(id=1, business_id=bakery.id, client_id=1, ai_thread="c"))
    assert rebuild(database, cache) == Rebuilt(written=1, removed=0)
    assert rebuild(database, cache) == Rebuilt(written=1, removed=0)
    assert list(stored(cache)) == [f"{odd}_{BUSINESS}"]
    assert verify(database, cache) == {}


def test_dry_run_counts_and_changes_nothing(database: Database, bakery: Business, cache: ServersWrite) -> None:
    add(database, bakery, range(1, 4))
    cache.put(entries=[entry(1, "conv_old"), entry(9)])
    before = stored(cache)
    assert rebuild(database, cache, dry_run=True) == Rebuilt(written=3, removed=1)
    assert stored(cache) == before


def test_rebuild_that_broke_off_is_finished_by_the_next(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    add(database, bakery, range(1, 4))
    usual = operator.config_get("maxmemory")["maxmemory"]
    operator.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutsideError):
            rebuild(database, cache)
    finally:
        operator.config_set("maxmemory", usual)
    assert rebuild(database, cache) == Rebuilt(written=3, removed=0)


# while servers write


def test_no_live_key_is_ever_missing(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    numbers = range(1, 201)
    add(database, bakery, numbers)
    cache.put(entries=[entry(number) for number in numbers])
    names = [key(number) for number in numbers]
    missing: list[int] = []
    looks, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            there = operator.exists(*names)
            looks[0] += 1
            if there != len(names):
                missing.append(len(names) - there)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            cache.put(entries=[entry(number) for number in range(300, 400)])
            assert rebuild(database, cache) == Rebuilt(written=200, removed=100)
    finally:
        stop.set()
        watcher.join()
    assert looks[0] > 5
    assert missing == []


def test_thread_that_a_server_stores_after_the_writing_is_not_removed(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    add(database, bakery, [1])

    def new_customer() -> None:
        add(database, bakery, [2])
        cache.put(entries=[entry(2)])

    cache.before_remove = new_customer
    cache.put(entries=[entry(9)])
    assert rebuild(database, cache) == Rebuilt(written=1, removed=1)
    assert stored(cache) == {key(1): "conv_1", key(2): "conv_2"}


def test_unknown_entry_does_not_hide_behind_one_that_went_missing(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    add(database, bakery, range(1, 4))
    cache.put(entries=[entry(9)])
    cache.before_scan = lambda: operator.delete(key(1)) and None
    assert rebuild(database, cache) == Rebuilt(written=3, removed=1)
    assert set(stored(cache)) == {key(2), key(3)}


def test_unknown_entry_that_a_server_takes_over_just_then_is_put_back(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    # A thread of an earlier install, in Redis alone: find_thread believes it, and stores it without writing it again.
    add(database, bakery, [1], threads=False)
    cache.put(entries=[entry(1), entry(9)])
    cache.before_remove = lambda: set_thread(database, 1, "conv_1")
    assert rebuild(database, cache) == Rebuilt(written=0, removed=1)
    assert stored(cache) == {key(1): "conv_1"}


def test_newer_thread_of_a_server_is_not_overwritten_with_the_older_one(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    add(database, bakery, [1, 2])

    def new_thread() -> None:
        set_thread(database, 1, "conv_new")
        cache.put(entries=[entry(1, "conv_new")])

    cache.before_put = new_thread
    assert rebuild(database, cache) == Rebuilt(written=2, removed=0)
    assert stored(cache) == {key(1): "conv_new", key(2): "conv_2"}


def test_thread_that_is_reset_while_it_is_written_does_not_come_back(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    add(database, bakery, [1, 2])

    def reset_it() -> None:
        reset(database, 1)
        cache.remove(keys=[key(1)])

    cache.before_put = reset_it
    rebuild(database, cache)
    assert stored(cache) == {key(2): "conv_2"}


def test_conversation_that_begins_while_the_last_page_is_written_is_written_too(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    add(database, bakery, [1])
    # The server was killed between its commit and its cache entry.
    cache.before_put = lambda: add(database, bakery, [2])
    assert rebuild(database, cache).written == 2
    assert stored(cache) == {key(1): "conv_1", key(2): "conv_2"}


# memory


def test_memory_does_not_grow_with_the_number_of_conversations(
    database: Database, bakery: Business, cache: ServersWrite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_cache, "PAGE", 100)
    monkeypatch.setattr("chatbotctl.core.adapters.redis_cache.BATCH", 100)
    plain = RedisCache(cache._url, 2.0, strict=True)

    def peak() -> int:
        rebuild(database, plain)  # what is loaded on first use does not count
        tracemalloc.start()
        try:
            rebuild(database, plain)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # The garbage collector lets some half a megabyte gather, which few conversations would not fill.
    add(database, bakery, range(1, 5001))
    few = peak()
    add(database, bakery, range(5001, 20001))
    many = peak()
    plain.close()
    # To hold no more than the keys of the others would take one and a half megabytes.
    assert many < few + 500_000


# verify


def test_verify_tells_missing_stale_and_different_entries_apart(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    add(database, bakery, range(1, 6))
    add(database, bakery, [6], threads=False)
    cache.put(entries=[entry(1), entry(2, "conv_other"), entry(6), entry(7)])
    operator.set(key(4), "not a hash")
    operator.set(key(8), "not a hash either")
    operator.hset(key(5), mapping={"from": customer(5), "to": BUSINESS})
    assert verify(database, cache) == {
        key(2): Kind.DIFFERENT,
        key(3): Kind.MISSING,
        key(4): Kind.DIFFERENT,
        key(5): Kind.DIFFERENT,
        key(6): Kind.STALE,
        key(7): Kind.STALE,
        key(8): Kind.STALE,
    }
    rebuild(database, cache)
    assert verify(database, cache) == {}


def test_verify_changes_nothing(database: Database, bakery: Business, cache: ServersWrite) -> None:
    add(database, bakery, [1, 2])
    cache.put(entries=[entry(1, "conv_other"), entry(9)])
    before = stored(cache)
    assert len(verify(database, cache)) == 3
    assert stored(cache) == before


def test_thread_that_a_server_is_just_writing_is_no_difference(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    add(database, bakery, [1, 2, 3])
    cache.put(entries=[entry(1), entry(2), entry(3)])

    def commit() -> None:
        set_thread(database, 1, "conv_new")  # a new thread
        reset(database, 2)
        add(database, bakery, [4])  # a new customer

    def write() -> None:
        cache.put(entries=[entry(1, "conv_new"), entry(4)])
        cache.remove(keys=[key(2)])

    cache.after_scan = commit
    cache.before_get = write
    assert verify(database, cache) == {}


def test_what_a_suspicion_has_become_meanwhile_is_what_counts(
    database: Database, bakery: Business, cache: ServersWrite, operator: redis.Redis
) -> None:
    add(database, bakery, [1])
    cache.put(entries=[entry(1, "conv_other")])
    cache.before_get = lambda: operator.delete(key(1)) and None
    assert verify(database, cache) == {key(1): Kind.MISSING}


def test_conversations_with_far_apart_ids_are_compared(
    database: Database, bakery: Business, cache: ServersWrite
) -> None:
    # PostgreSQL uses up an id with every message.
    add(database, bakery, [1, 9000])
    rebuild(database, cache)
    assert verify(database, cache) == {}
    cache.remove(keys=[key(9000)])
    assert verify(database, cache) == {key(9000): Kind.MISSING}
