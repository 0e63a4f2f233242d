"""What ends in the database leaves the shared cache too, or the operator is told what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chatbotctl.core.adapters.memory_cache import MemoryCache
from chatbotctl.core.adapters.redis_cache import RedisCache
from chatbotctl.core.errors import OutsideError
from chatbotctl.core.ports import ThreadCache
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.upkeep.forget_threads import forget_threads

LUNA, NOVA = "whatsapp:+15550001111", "whatsapp:+15550002222"
ANA = "whatsapp:+15557654321"


@contextmanager
def opened(cache: ThreadCache) -> Iterator[ThreadCache]:
    yield cache


def test_entries_leave_the_cache_and_others_stay() -> None:
    cache = MemoryCache()
    gone, stays = (CachedThread(sender=ANA, receiver=receiver, thread_id="t") for receiver in (LUNA, NOVA))
    cache.put(entries=[gone, stays])

    forget_threads([gone.key], opened(cache))

    assert cache.get(sender=ANA, receiver=LUNA) is None
    assert cache.get(sender=ANA, receiver=NOVA) == stays


def test_with_nothing_to_forget_no_cache_is_opened() -> None:
    @contextmanager
    def out_of_reach() -> Iterator[ThreadCache]:
        raise OutsideError
        yield

    forget_threads([], out_of_reach())
    forget_threads(["key"], None)


def test_a_cache_out_of_reach_leaves_the_operator_with_a_command() -> None:
    cache = RedisCache("redis://127.0.0.1:1/0", 0.1, strict=True)
    with pytest.raises(OutsideError, match="still has 2 of its threads") as caught:
        forget_threads(["one", "two"], opened(cache))
    assert "chatbotctl cache rebuild" in str(caught.value.hint)
    cache.close()
