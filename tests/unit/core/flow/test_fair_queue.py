"""Businesses take turns, none takes more than its share, and what waits is bounded."""

from __future__ import annotations

from chatbotctl.core.flow.fair_queue import FairQueue
from chatbotctl.core.records.conversation import Due

FLOODED, QUIET = 1, 2


def test_threads_go_to_businesses_in_turn_and_within_one_first_come_first_served() -> None:
    queue = FairQueue(threads=10, share=1)
    for due in (Due(1, FLOODED), Due(2, FLOODED), Due(3, FLOODED), Due(4, QUIET)):
        queue.add(due)

    assert [queue.take() for _ in range(5)] == [Due(1, FLOODED), Due(4, QUIET), Due(2, FLOODED), Due(3, FLOODED), None]


def test_business_with_a_flood_leaves_threads_to_the_others() -> None:
    queue = FairQueue(threads=4, share=0.75)
    for number in range(8):
        queue.add(Due(number, FLOODED))
    assert [queue.take() is not None for _ in range(4)] == [True, True, True, False]

    queue.add(Due(100, QUIET))

    assert queue.take() == Due(100, QUIET)


def test_business_that_is_done_with_one_conversation_may_begin_one_more() -> None:
    queue = FairQueue(threads=4, share=0.5)
    for number in range(6):
        queue.add(Due(number, FLOODED))
    first, second, none = queue.take(), queue.take(), queue.take()
    assert first is not None
    assert (second, none) == (Due(1, FLOODED), None)

    queue.done(first)

    assert [queue.take(), queue.take()] == [Due(2, FLOODED), None]


def test_no_more_run_than_there_are_threads_however_many_businesses_wait() -> None:
    queue = FairQueue(threads=2, share=0.5)
    for business in range(5):
        queue.add(Due(business, business))
    first, second, none = queue.take(), queue.take(), queue.take()
    assert first is not None
    assert (second, none) == (Due(1, 1), None)

    queue.done(first)

    assert [queue.take(), queue.take()] == [Due(2, 2), None]


def test_thread_that_is_free_again_is_handed_on() -> None:
    queue = FairQueue(threads=1, share=0.1)
    queue.add(Due(1, FLOODED))
    queue.add(Due(2, FLOODED))
    first = queue.take()
    assert first == Due(1, FLOODED)
    assert queue.take() is None

    queue.done(first)

    assert queue.take() == Due(2, FLOODED)


def test_more_than_may_wait_of_one_business_is_left_to_the_sweeper() -> None:
    queue = FairQueue(threads=1, share=1)

    assert [queue.add(Due(number, FLOODED)) for number in range(3)] == [True, True, False]
    assert queue.full == {FLOODED}
    assert queue.add(Due(9, QUIET))


def test_what_waits_can_be_given_back() -> None:
    queue = FairQueue(threads=1, share=1)
    queue.add(Due(1, FLOODED))
    queue.add(Due(2, QUIET))

    assert queue.clear() == [Due(1, FLOODED), Due(2, QUIET)]
    assert queue.take() is None


def test_queue_is_low_when_the_threads_may_soon_have_nothing_to_do() -> None:
    queue = FairQueue(threads=2, share=1)
    assert queue.is_low

    for number in range(3):
        queue.add(Due(number, number))
    assert not queue.is_low

    queue.take()
    assert not queue.is_low
    queue.take()
    assert queue.is_low
