"""Wake-ups inside one process: on time, in order of their time, and gone once it is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from chatbotctl.core.adapters import local_wakeup
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from chatbotctl.core.records.conversation import Due
from tests.installs import eventually


def listener(heard: list[Due]) -> Callable[[Due], bool]:
    return lambda due: heard.append(due) is None


@pytest.fixture
def wakeup() -> Iterator[LocalWakeup]:
    made = LocalWakeup()
    yield made
    made.close()


def test_listener_is_called_for_each_wake_up_soonest_first(wakeup: LocalWakeup) -> None:
    heard: list[Due] = []
    wakeup.listen(handler=listener(heard))

    for conversation_id, delay in ((3, 0.3), (1, 0.1), (2, 0.2)):
        wakeup.wake(due=Due(conversation_id, 7), delay=delay)

    eventually(lambda: len(heard) == 3)
    assert [due.conversation_id for due in heard] == [1, 2, 3]


def test_nobody_is_called_too_soon(wakeup: LocalWakeup) -> None:
    heard: list[float] = []
    wakeup.listen(handler=lambda _: heard.append(time.monotonic()) is None)
    asked = time.monotonic()

    wakeup.wake(due=Due(1, 7), delay=0.2)

    eventually(lambda: heard)
    assert heard[0] >= asked + 0.2


def test_sooner_wake_up_overtakes_one_that_is_waited_for(wakeup: LocalWakeup) -> None:
    heard: list[Due] = []
    wakeup.listen(handler=listener(heard))
    wakeup.wake(due=Due(1, 7), delay=3600)

    wakeup.wake(due=Due(2, 7), delay=0)

    eventually(lambda: heard == [Due(2, 7)])


def test_without_a_listener_wake_ups_are_dropped_and_not_kept(wakeup: LocalWakeup) -> None:
    heard: list[Due] = []
    wakeup.wake(due=Due(1, 7), delay=0)

    wakeup.listen(handler=listener(heard))
    wakeup.wake(due=Due(2, 7), delay=0)

    eventually(lambda: heard)
    assert [due.conversation_id for due in heard] == [2]


def test_after_close_nobody_is_called_any_more_and_the_thread_ends(wakeup: LocalWakeup) -> None:
    heard: list[Due] = []
    wakeup.listen(handler=listener(heard))
    wakeup.wake(due=Due(1, 7), delay=0.1)

    wakeup.close()
    wakeup.wake(due=Due(2, 7), delay=0)

    eventually(lambda: not any(thread.name == "wakeup" for thread in threading.enumerate()))
    assert heard == []


def test_flood_of_wake_ups_is_bounded(wakeup: LocalWakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_wakeup, "MOST_PENDING", 3)
    wakeup.listen(handler=lambda _: True)

    for conversation_id in range(10):
        wakeup.wake(due=Due(conversation_id, 7), delay=3600)

    assert len(wakeup._pending) == 3
