"""The short runs: a few injuries of each kind under a small load. `make chaos` runs the same ones long.

Again with the same seed: `pytest tests/chaos --randomly-seed=N`, with N as pytest prints it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import services
from tests.chaos import scenarios, stores
from tests.chaos.cluster import Kind
from tests.chaos.runs import BRISK, Plan

TWO = (Kind.SERVE, Kind.SERVE)
APART = (Kind.INTAKE, Kind.WORKER)


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """One process on SQLite, a handful of customers."""
    seed = int(request.config.getoption("randomly_seed"))
    return Plan(seed=seed, environment=BRISK, conversations=16, rate=4.0, recovery=60.0, hasten=True)


@pytest.fixture
def shared_plan(plan: Plan, postgres_url: str, redis_url: str) -> Plan:
    """Two processes on PostgreSQL and Redis."""
    return replace(plan, kinds=TWO, database_url=postgres_url, redis_url=redis_url)


def test_a_single_process_killed_again_and_again_loses_and_doubles_nothing(plan: Plan) -> None:
    scenarios.kills(plan, count=5, every=(0.3, 1.5)).require()


def test_processes_killed_at_random_lose_and_double_nothing(shared_plan: Plan) -> None:
    scenarios.kills(replace(shared_plan, kinds=(*APART, Kind.WORKER)), count=5, every=(0.3, 1.5)).require()


def test_a_rolling_restart_loses_nothing(shared_plan: Plan) -> None:
    scenarios.rolling(shared_plan, rounds=1, pause=0.2).require()


def test_a_postgres_that_crashes_and_cuts_connections_loses_nothing(plan: Plan, redis_url: str) -> None:
    with stores.Postgres() as server, services.fresh_database(server.url) as url:
        plan = replace(plan, kinds=APART, database_url=url, redis_url=redis_url)
        scenarios.postgres(plan, server, times=2, every=(0.5, 2.0)).require()


def test_a_redis_that_dies_forgets_or_hangs_holds_no_reply_up(shared_plan: Plan) -> None:
    with stores.Redis() as redis:
        scenarios.redis(replace(shared_plan, kinds=APART, redis_url=redis.url), redis, hold=3.0, messages=4).require()


def test_slack_and_google_out_hold_no_reply_up(plan: Plan) -> None:
    on = {"CHATBOTCTL_TRANSLATE__ENABLED": "true", "CHATBOTCTL_TRANSLATE__TARGET_LANGUAGE": "en"}
    scenarios.vendors(replace(plan, environment=BRISK | on), hold=2.0, messages=4).require()


def test_a_locked_sqlite_is_waited_for(plan: Plan) -> None:
    scenarios.locked(plan, holds=(2.5,), pause=0.5).require()


def test_without_room_for_its_files_nothing_is_acknowledged_and_nothing_lost(plan: Plan) -> None:
    scenarios.files(plan, size=256 * 1024, hold=1.0).require()


def test_what_a_process_killed_for_good_worked_on_is_taken_over(shared_plan: Plan) -> None:
    scenarios.takeover(replace(shared_plan, kinds=(*APART, Kind.WORKER)), messages=8).require()
