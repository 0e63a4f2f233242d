"""Wake-ups inside one process: on time, in order of their time, and gone once it is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from chatbotctl.core.adapters import local_wakeup
from chatbotctl.core.adapters.local_wakeup import LocalWakeup
from tests.installs import eventually


@pytest.fixture
def wakeup() -> Iterator[LocalWakeup]:
    made = LocalWakeup()
    yield made
    made.close()


def test_listener_is_called_for_each_wake_up_soonest_first(wakeup: LocalWakeup) -> None:
    heard: list[int] = []
    wakeup.listen(handler=heard.append)

    for conversation_id, delay in ((3, 0.3), (1, 0.1), (2, 0.2)):
        wakeup.wake(conversation_id=conversation_id, delay=delay)

    eventually(lambda: len(heard) == 3)
    assert heard == [1, 2, 3]


def test_nobody_is_called_too_soon(wakeup: LocalWakeup) -> None:
    heard: list[float] = []
    wakeup.listen(handler=lambda _: heard.append(time.monotonic()))
    asked = time.monotonic()

    wakeup.wake(conversation_id=1, delay=0.2)

    eventually(lambda: heard)
    assert heard[0] >= asked + 0.2


def test_sooner_wake_up_overtakes_one_that_is_waited_for(wakeup: LocalWakeup) -> None:
    heard: list[int] = []
    wakeup.listen(handler=heard.append)
    wakeup.wake(conversation_id=1, delay=3600)

    wakeup.wake(conversation_id=2, delay=0)

    eventually(lambda: heard == [2])


def test_without_a_listener_wake_ups_are_dropped_and_not_kept(wakeup: LocalWakeup) -> None:
    heard: list[int] = []
    wakeup.wake(conversation_id=1, delay=0)

    wakeup.listen(handler=heard.append)
    wakeup.wake(conversation_id=2, delay=0)

    eventually(lambda: heard)
    assert heard == [2]


def test_after_close_nobody_is_called_any_more_and_the_thread_ends(wakeup: LocalWakeup) -> None:
    heard: list[int] = []
    wakeup.listen(handler=heard.append)
    wakeup.wake(conversation_id=1, delay=0.1)

    wakeup.close()
    wakeup.wake(conversation_id=2, delay=0)

    eventually(lambda: not any(thread.name == "wakeup" for thread in threading.enumerate()))
    assert heard == []


def test_flood_of_wake_ups_is_bounded(wakeup: LocalWakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_wakeup, "MOST_PENDING", 3)
    wakeup.listen(handler=lambda _: None)

    for conversation_id in range(10):
        wakeup.wake(conversation_id=conversation_id, delay=3600)

    assert len(wakeup._pending) == 3
