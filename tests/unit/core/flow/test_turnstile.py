"""A few turns compute at once, and one that waits for the outside is in nobody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbotctl.core.flow.turnstile import Turnstile

FOR_EVER = 60.0


def in_a_thread(do: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(do).result()


def has_room(turnstile: Turnstile) -> bool:
    """Whether another thread finds a place at once."""
    found: list[bool] = []

    def look() -> None:
        found.append(turnstile._places.acquire(blocking=False))
        if found[0]:
            turnstile._places.release()

    in_a_thread(look)
    return found[0]


def test_no_more_than_its_places_are_inside_at_once() -> None:
    turnstile = Turnstile(places=2, patience=FOR_EVER)
    lock, inside, most = threading.Lock(), [0], [0]

    def turn() -> None:
        with turnstile.inside():
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            with lock:
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(turn) for _ in range(24)]:
            done.result()

    assert most[0] == 2


def test_who_waits_for_the_outside_leaves_the_place_to_another() -> None:
    turnstile = Turnstile(places=1, patience=FOR_EVER)
    with turnstile.inside():
        assert not has_room(turnstile)
        with turnstile.outside():
            assert has_room(turnstile)
        assert not has_room(turnstile)
    assert has_room(turnstile)


def test_a_fault_gives_the_place_back() -> None:
    turnstile = Turnstile(places=1, patience=FOR_EVER)
    with pytest.raises(RuntimeError), turnstile.inside(), turnstile.outside():
        raise RuntimeError
    assert has_room(turnstile)


def test_who_has_waited_long_enough_goes_on_without_a_place() -> None:
    turnstile = Turnstile(places=1, patience=0.01)
    came: list[str] = []

    def second() -> None:
        with turnstile.inside():
            came.append("in")
            with turnstile.outside():
                came.append("out")
        came.append("done")

    with turnstile.inside():
        in_a_thread(second)

    assert came == ["in", "out", "done"]
    assert has_room(turnstile)


def test_thread_that_is_no_turns_waits_for_nobody() -> None:
    turnstile = Turnstile(places=1, patience=FOR_EVER)
    with turnstile.inside():
        in_a_thread(turnstile.outside().__enter__)
        assert not has_room(turnstile)
