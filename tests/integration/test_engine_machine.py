"""The engine under every injury at every moment of a message's path, one at a time and then in any order of any.

Customers write, Twilio delivers twice, processes join, leave and die at any moment, the database is away, vendors fail,
operators reset and disable. After every step the promises hold as far as they can yet, and when all injuries are over
and everything has come to rest, they hold to the letter: each message that was acknowledged has come to its end, each
part of a reply was sent once, in order. Everything runs in one thread: what is found can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests import long_runs, services
from tests.installs import install, sqlite_database
from tests.integration.engine_model import FAULTS, Moment
from tests.integration.engine_site import CUSTOMERS, FLAGS, SHOPS, EngineSite, Plan

#: What others may do while a worker is on its way; before a transaction, it makes no difference how long before.
OTHERS = ("writes_on", "delivered_again", "reset", "disabled")
INTERRUPTIBLE = (Moment.WRITES, Moment.ASKED, Moment.ANSWERED, Moment.SENDING, Moment.SENT)
#: Where a worker may be frozen until its lease has run out and another has done its work. Not between the marking of a
#: part and Twilio's taking it: there the clock tells it, and no time passes here (tests/acceptance freezes for real).
FREEZABLE = (Moment.WRITES, Moment.ASKED, Moment.ANSWERED, Moment.SENT)


def injuries(moment: Moment) -> list[str]:
    """What can happen at a moment."""
    faults = [fault.__name__ for fault in FAULTS[moment]]
    others = OTHERS if moment in INTERRUPTIBLE else ()
    return [*faults, *others, *(["frozen"] if moment in FREEZABLE else [])]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], EngineSite]]:
    """Makes an install on an empty database; one at a time."""
    monkeypatch.setattr("chatbotctl.core.flow.keep_writing.PAUSE_SECONDS", 0.0)

    with install(flags=FLAGS, database_url=sqlite_database(tmp_path)) as core:

        def make() -> EngineSite:
            if request.param == "sqlite":
                return EngineSite(core.services, sqlite_database(tmp_path))
            url: str = request.getfixturevalue("postgres_store")
            empty(url)
            return EngineSite(core.services, url)

        yield make


def empty(url: str) -> None:
    """Take every row out of a PostgreSQL database; for the few rows here, TRUNCATE takes ten times as long."""
    with services.administrator(url) as cursor:
        cursor.execute("DELETE FROM businesses")
        cursor.execute("DELETE FROM clients")


@pytest.mark.parametrize("shop", list(SHOPS))
@pytest.mark.parametrize("moment", list(Moment), ids=str)
def test_one_injury_at_any_moment_of_a_turn_breaks_no_promise(
    new_site: Callable[[], EngineSite], moment: Moment, shop: str
) -> None:
    """A turn of two messages and a reply of two parts, injured at the first such moment, the second, and so on."""
    for what in injuries(moment):
        nth = 0
        happened = True
        while happened:
            nth += 1
            site = new_site()
            site.write(shop, CUSTOMERS[0], much=True)
            site.write(shop, CUSTOMERS[0], much=False)
            site.run(site.processes[0], site.conversations()[0], [Plan(moment, nth, what)])
            happened = what in site.injuries
            site.the_promises_hold()
            site.come_to_rest()
            site.everything_has_come_to_its_end()
            site.close()
        assert nth > 1, f"{what} never happened"


def _plans(moment: Moment) -> st.SearchStrategy[Plan]:
    most = 9 if moment in (Moment.READS, Moment.WRITES, Moment.COMMITTED) else 2
    return st.builds(Plan, st.just(moment), st.integers(1, most), st.sampled_from(injuries(moment)))


PLANS = st.lists(st.sampled_from(list(Moment)).flatmap(_plans), max_size=2)
FAULTS_OF_TAKING_IN = st.lists(
    st.builds(
        Plan,
        st.sampled_from([Moment.READS, Moment.WRITES, Moment.COMMITTED]),
        st.integers(1, 2),
        st.sampled_from(["die", "database_away"]),
    ),
    max_size=1,
)
NUMBERS = st.integers(0, 5)


class Engine(RuleBasedStateMachine):
    """Whatever can happen, as rules."""

    #: Set by the test.
    new_site: Callable[[], EngineSite]

    def __init__(self) -> None:
        super().__init__()
        self.site = type(self).new_site()

    @rule(
        shop=st.sampled_from(list(SHOPS)), who=st.sampled_from(CUSTOMERS), much=st.booleans(), plans=FAULTS_OF_TAKING_IN
    )
    def customer_writes(self, shop: str, who: str, much: bool, plans: list[Plan]) -> None:
        self.site.write(shop, who, much=much, plans=plans)

    @precondition(lambda self: self.site.delivered)
    @rule(which=NUMBERS, plans=FAULTS_OF_TAKING_IN)
    def twilio_delivers_again(self, which: int, plans: list[Plan]) -> None:
        self.site.take_in(self.site.delivered[which % len(self.site.delivered)], plans)

    @precondition(lambda self: self.site.delivered)
    @rule(worker=NUMBERS, which=NUMBERS, plans=PLANS)
    def worker_takes_a_conversation(self, worker: int, which: int, plans: list[Plan]) -> None:
        known = self.site.conversations()
        if known:
            self.site.run(self.site.one_of_processes(worker), known[which % len(known)], plans)

    @precondition(lambda self: self.site.delivered)
    @rule(worker=NUMBERS, plans=PLANS)
    def worker_sweeps(self, worker: int, plans: list[Plan]) -> None:
        for conversation in self.site.due():
            self.site.run(self.site.one_of_processes(worker), conversation, plans)
            plans = []

    @rule()
    def leases_run_out(self) -> None:
        self.site.expire_leases()

    @rule()
    def waits_are_over(self) -> None:
        self.site.make_due()

    @precondition(lambda self: self.site.delivered)
    @rule(which=NUMBERS)
    def operator_resets(self, which: int) -> None:
        known = self.site.conversations()
        if known:
            self.site.reset(known[which % len(known)])

    @rule(shop=st.sampled_from(list(SHOPS)), disabled=st.booleans())
    def operator_disables_or_enables(self, shop: str, disabled: bool) -> None:
        self.site.set_disabled(shop, disabled)

    @rule()
    def process_joins(self) -> None:
        self.site.processes.append(self.site.new_process())

    @precondition(lambda self: len(self.site.processes) > 1)
    @rule(which=NUMBERS)
    def process_leaves(self, which: int) -> None:
        self.site.processes.pop(which % len(self.site.processes))

    @invariant()
    def the_promises_hold(self) -> None:
        self.site.the_promises_hold()

    def teardown(self) -> None:
        try:
            self.site.come_to_rest()
            self.site.everything_has_come_to_its_end()
        finally:
            self.site.close()


#: A quick run is the same every time; a long one looks elsewhere each time, and prints how to repeat what it found.
PROFILE = settings(
    max_examples=long_runs.times("examples", quick=25, long=2000),
    stateful_step_count=long_runs.times("steps", quick=25, long=40),
    derandomize=not long_runs.IS_LONG,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink] if long_runs.IS_LONG else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(7200)
def test_whatever_happens_in_whatever_order_every_promise_holds(new_site: Callable[[], EngineSite]) -> None:
    machine = type("Engine", (Engine,), {"new_site": staticmethod(new_site)})
    run_state_machine_as_test(machine, settings=PROFILE)
