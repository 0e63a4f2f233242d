"""A pool's threads are all there at the start, or the start says that there is no room for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.flow.thread_pool import start_threads


def no_more_threads(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The machine has room for so many threads more."""
    start, left = threading.Thread.start, iter(range(after))

    def bounded(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", bounded)


def test_work_finds_its_thread_when_no_more_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(4) as pool:
        start_threads(pool, 4)
        no_more_threads(monkeypatch, 0)
        together = threading.Barrier(5)
        for _ in range(4):
            pool.submit(together.wait, 20)
        together.wait(20)


def test_too_little_room_is_told_at_the_start_and_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(4) as pool:
        no_more_threads(monkeypatch, 3)
        with pytest.raises(ConfigurationError, match="no room for 4 threads"):
            start_threads(pool, 4)
