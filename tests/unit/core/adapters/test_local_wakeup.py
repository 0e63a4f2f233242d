"""Wake-ups inside one process, beyond what every ports.Wakeup does (tests/contract/test_wakeups.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

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


def test_without_a_listener_wake_ups_are_dropped_and_not_kept(wakeup: LocalWakeup) -> None:
    heard: list[Due] = []
    wakeup.wake(due=Due(1, 7), delay=0)

    wakeup.listen(handler=listener(heard))
    wakeup.wake(due=Due(2, 7), delay=0)

    eventually(lambda: heard)
    assert [due.conversation_id for due in heard] == [2]
