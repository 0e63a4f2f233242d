"""Requests that wait for a turn's end: each is woken by its own conversation, and nobody is missed."""

from __future__ import annotations

from chatbotctl.core.flow.waiting import Waiters


def test_all_who_wait_for_a_conversation_are_woken_and_nobody_else() -> None:
    waiters = Waiters()
    with waiters.waiting_for(1) as one, waiters.waiting_for(1) as two, waiters.waiting_for(2) as other:
        waiters.ended(1)

        assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)


def test_end_between_the_look_and_the_wait_is_not_missed() -> None:
    waiters = Waiters()
    with waiters.waiting_for(1) as ended:
        ended.clear()
        waiters.ended(1)

        assert ended.wait(0)


def test_end_that_nobody_waits_for_is_fine_and_leaves_nothing() -> None:
    waiters = Waiters()
    waiters.ended(1)
    with waiters.waiting_for(1) as ended:
        assert not ended.is_set()

    assert waiters._waiting == {}


def test_process_that_ends_lets_everybody_go() -> None:
    waiters = Waiters()
    with waiters.waiting_for(1) as ended:
        waiters.stop()

        assert ended.is_set()
        assert waiters.stopped
