"""kill -9 at every fail point, five times each, on both stores. `make chaos` does it twenty times each.

How soon all is answered is that one's to judge: here it only bounds how long a broken test hangs.

Another run with the same seed: `pytest tests/chaos --randomly-seed=N`, N as pytest prints it.
"""

from __future__ import annotations

import pytest

from tests.chaos import kill_points
from tests.chaos.runs import BRISK, Plan

KILLS = 5
#: All points at once are a minute's work for a busy machine.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """Short leases; and Twilio's list so far behind that a part that had left is not in it at the first look."""
    seed = int(request.config.getoption("randomly_seed"))
    short = {"CHATBOTCTL_WORKER__LEASE_SECONDS": "1", "CHATBOTCTL_TWILIO__LOOKUP_WAIT_SECONDS": "2"}
    environment = BRISK | short
    return Plan(seed=seed, environment=environment, thinking=0.02, list_lag=1.5, hasten=True, forked=True)


def test_a_process_killed_anywhere_on_sqlite_loses_and_doubles_nothing(plan: Plan) -> None:
    kill_points.at_every_point(plan, kills=KILLS, at_once=9, within=kill_points.PATIENCE, server=None).require()


def test_a_process_killed_anywhere_on_postgres_loses_and_doubles_nothing(plan: Plan, postgres_server: str) -> None:
    kill_points.at_every_point(
        plan, kills=KILLS, at_once=9, within=kill_points.PATIENCE, server=postgres_server
    ).require()
