"""The scenarios by name, for `python -m tests.chaos NAME` and, with other counts, for the quick tests."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from tests.chaos import injuries, stores
from tests.chaos.cluster import Kind
from tests.chaos.report import Report
from tests.chaos.runs import Plan, scene
from tests.chaos.stores import Postgres, Redis

Span = tuple[float, float]
#: Seconds of load before an injury, and after it was healed.
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 2.0


def kills(plan: Plan, *, count: int, every: Span) -> Report:
    """kill -9 of any process at random, under load."""
    plan = replace(plan, expected=replace(plan.expected, injuries=count))
    with scene(f"kill -9, {_store(plan)}", plan) as under_way:
        injuries.kill_at_random(under_way, kills=count, every=every)
    return under_way.report


def rolling(plan: Plan, *, rounds: int, pause: float) -> Report:
    """Every process restarted in turn by SIGTERM, under load."""
    with scene(f"rolling restart, {_store(plan)}", plan) as under_way:
        injuries.restart_in_turn(under_way, rounds=rounds, pause=pause)
    return under_way.report


def postgres(plan: Plan, server: Postgres, *, times: int, every: Span) -> Report:
    """PostgreSQL restarted again and again, under load."""
    plan = replace(plan, expected=replace(plan.expected, injuries=times * len(plan.kinds)))
    with scene("PostgreSQL restarted", plan) as under_way:
        injuries.restart_postgres(under_way, server, times=times, every=every)
    return under_way.report


def redis(plan: Plan, server: Redis, *, hold: float, messages: int) -> Report:
    """Redis killed, emptied and frozen, under load."""
    with scene("Redis killed, emptied, frozen", plan) as under_way:
        injuries.hurt_redis(under_way, server, hold=hold, messages=messages)
    return under_way.report


def vendors(plan: Plan, *, hold: float, messages: int) -> Report:
    """Slack refusing everything and Google hanging, under load."""
    with scene("Slack and Google out", plan) as under_way:
        injuries.hurt_vendors(under_way, hold=hold, messages=messages)
    return under_way.report


def locked(plan: Plan, *, holds: tuple[float, ...], pause: float) -> Report:
    """SQLite locked by another process, within and beyond what a statement waits for it (10 s), under load."""
    with scene("SQLite locked by another process", plan) as under_way:
        database = under_way.cluster.install.home / "chatbotctl.db"
        injuries.lock_sqlite(under_way, database, holds=holds, pause=pause)
    return under_way.report


def disk(plan: Plan, *, hold: float, folder: Path) -> Report:
    """The database's disk full, under load: a small tmpfs, or where none can be mounted, a limit on files."""
    with stores.small_disk(folder, megabytes=32) as small:
        if not small.is_mounted:
            return files(plan, size=256 * 1024, hold=hold)
        plan = replace(plan, database_url=f"sqlite:///{small.folder / 'chatbotctl.db'}")
        with scene("disk full", plan) as under_way:
            time.sleep(BEFORE_SECONDS)
            injuries.fill_disk(under_way, small, hold=hold)
            time.sleep(AFTER_SECONDS)
        return under_way.report


def files(plan: Plan, *, size: int, hold: float) -> Report:
    """No file of the processes may grow beyond a size, under load; their logs are files as well."""
    with scene("file size limited", plan) as under_way:
        time.sleep(BEFORE_SECONDS)
        injuries.limit_file_sizes(under_way, size=size, hold=hold)
        time.sleep(AFTER_SECONDS)
    return under_way.report


def takeover(plan: Plan, *, messages: int, bound: float | None = None) -> Report:
    """A process killed for good while it works on turns.

    Arguments:
        bound: seconds within which another has to have each of its conversations; None: that is only measured.
    """
    plan = replace(plan, rate=0, expected=replace(plan.expected, injuries=1))
    with scene(f"a worker killed for good, {_store(plan)}", plan) as under_way:
        under_way.world.openai.takes = (4.0, 4.0)
        works = [member for member in under_way.cluster.members if member.kind is not Kind.INTAKE]
        took = injuries.kill_for_good(under_way, works, messages=messages)
        if bound is not None and max(took) > bound:
            under_way.report.breaks("taken over too late", f"{max(took):.1f} s, bound {bound:g} s")
    return under_way.report


def _store(plan: Plan) -> str:
    return "SQLite" if plan.database_url is None else "PostgreSQL and Redis"
