"""The breaker that keeps a hung service from costing every message a timeout."""

from __future__ import annotations

from chatbotctl.core.adapters.breaker import Breaker


def test_one_caller_probes_after_the_pause_while_the_others_go_on() -> None:
    now = 0.0
    breaker = Breaker(open_seconds=2.0, clock=lambda: now)
    assert breaker.allows()
    breaker.failed()
    assert (breaker.allows(), breaker.seconds_left) == (False, 2.0)
    now = 2.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_a_probe_that_never_reports_blocks_nobody_for_good() -> None:
    now = 0.0
    breaker = Breaker(open_seconds=2.0, clock=lambda: now)
    breaker.failed()
    now = 2.0
    assert breaker.allows()
    now = 4.0
    assert breaker.allows()


def test_a_failure_may_ask_for_a_longer_pause_this_once() -> None:
    now = 0.0
    breaker = Breaker(open_seconds=2.0, clock=lambda: now)
    breaker.failed(open_seconds=10.0)
    now = 9.0
    assert (breaker.allows(), breaker.seconds_left) == (False, 1.0)
    now = 10.0
    assert (breaker.allows(), breaker.allows()) == (True, False)
    now = 12.0
    assert breaker.allows()


def test_a_closed_breaker_leaves_nothing_to_wait_for() -> None:
    assert Breaker(open_seconds=2.0).seconds_left == 0.0
