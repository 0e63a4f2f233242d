"""`python -m tests.chaos [NAME ...]`: the long runs, with counts as arguments; docs/chaos.md explains them.

Each prints what it counted, its seed, and the invariants that do not hold; the exit code is 1 when one does not.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests import services
from tests.chaos import kill_points, scenarios, stores
from tests.chaos.cluster import Kind
from tests.chaos.invariants import Expected
from tests.chaos.report import Report
from tests.chaos.runs import Plan

#: The install's defaults (docs/settings.md): what a takeover may take.
LEASE_SECONDS, SWEEP_SECONDS = 15.0, 1.0
#: Seconds that a machine under load may add to it.
SLACK_SECONDS = 2.0
ON = {"CHATBOTCTL_TRANSLATE__ENABLED": "true", "CHATBOTCTL_TRANSLATE__TARGET_LANGUAGE": "en"}
#: The mirror at a pace at which it keeps up with the load.
QUICK_SLACK = {"CHATBOTCTL_SLACK__POSTS_PER_SECOND": "20"}


def main() -> None:
    """Run what was asked for, one after the other."""
    options = _options()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    failed = 0
    for name in options.names or RUNS:
        try:
            with ExitStack() as stack:
                report = RUNS[name](_Given(options, stack))
        except AssertionError as never_came:
            failed += 1
            _say(f"{name} (seed {options.seed})\n  BROKEN {never_came}")
        else:
            failed += bool(report.broken)
            _say(report.table)
    sys.exit(1 if failed else 0)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


class _Given:
    """What was asked for, and the stores that a run takes."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.options = options
        self._stack = stack

    @property
    def embedded(self) -> Plan:
        """One process on SQLite."""
        options = self.options
        return Plan(
            seed=options.seed,
            environment=QUICK_SLACK,
            conversations=options.conversations,
            rate=options.rate,
            recovery=options.recovery,
            keep=options.keep,
            expected=Expected(),
        )

    def server(self) -> str:
        """A PostgreSQL."""
        return self._stack.enter_context(services.postgres_server())

    def shared(self) -> tuple[Plan, stores.Postgres, stores.Redis]:
        """As many processes as asked for, on a PostgreSQL and a Redis of their own."""
        options = self.options
        server = self._stack.enter_context(stores.Postgres())
        url = self._stack.enter_context(services.fresh_database(server.url))
        redis = self._stack.enter_context(stores.Redis())
        kinds = [Kind.SERVE] * options.serve + [Kind.INTAKE] * options.intake + [Kind.WORKER] * options.workers
        plan = replace(self.embedded, kinds=tuple(kinds), database_url=url, redis_url=redis.url)
        return plan, server, redis


def _kills(given: _Given) -> Report:
    plan, _, _ = given.shared()
    return scenarios.kills(plan, count=given.options.kills, every=(0.5, 5.0))


def _kills_sqlite(given: _Given) -> Report:
    return scenarios.kills(given.embedded, count=given.options.kills, every=(1.0, 6.0))


def _rolling(given: _Given) -> Report:
    plan, _, _ = given.shared()
    return scenarios.rolling(plan, rounds=given.options.rounds, pause=2.0)


def _postgres(given: _Given) -> Report:
    plan, server, _ = given.shared()
    return scenarios.postgres(plan, server, times=given.options.restarts, every=(5.0, 40.0))


def _redis(given: _Given) -> Report:
    plan, _, server = given.shared()
    return scenarios.redis(plan, server, hold=given.options.hold, messages=20)


def _vendors(given: _Given) -> Report:
    plan = given.embedded
    plan = replace(plan, environment={**plan.environment, **ON})
    return scenarios.vendors(plan, hold=given.options.hold, messages=20)


def _locked(given: _Given) -> Report:
    return scenarios.locked(given.embedded, holds=(10.0, 14.0, 10.0), pause=5.0)


def _disk(given: _Given) -> Report:
    with tempfile.TemporaryDirectory(prefix="chatbotctl-disk-") as folder:
        return scenarios.disk(given.embedded, hold=given.options.hold / 2, folder=Path(folder) / "disk")


def _files(given: _Given) -> Report:
    return scenarios.files(given.embedded, size=256 * 1024, hold=given.options.hold / 2)


def _takeover(given: _Given) -> Report:
    plan, _, _ = given.shared()
    return scenarios.takeover(plan, messages=40, bound=LEASE_SECONDS + SWEEP_SECONDS + SLACK_SECONDS)


def _at_every_point(given: _Given, server: str | None) -> Report:
    within = kill_points.RECOVERED_SECONDS
    # Real starts and real leases; the list's usual delay has passed by the time that a lease has run out.
    plan = replace(given.embedded, list_lag=0.5)
    return kill_points.at_every_point(
        plan, kills=given.options.each, at_once=given.options.at_once, within=within, server=server
    )


def _points(given: _Given) -> Report:
    return _at_every_point(given, given.server())


def _points_sqlite(given: _Given) -> Report:
    return _at_every_point(given, None)


RUNS: dict[str, Callable[[_Given], Report]] = {
    "points": _points,
    "points-sqlite": _points_sqlite,
    "kills": _kills,
    "kills-sqlite": _kills_sqlite,
    "rolling": _rolling,
    "postgres": _postgres,
    "redis": _redis,
    "vendors": _vendors,
    "locked": _locked,
    "disk": _disk,
    "files": _files,
    "takeover": _takeover,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(RUNS)}; all unless given")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32), help="of an earlier run")
    parser.add_argument("--each", type=int, default=20, help="points: kills at each fail point [20]")
    parser.add_argument("--at-once", type=int, default=5, help="points: installs side by side [5]")
    parser.add_argument("--kills", type=int, default=100, help="kills: how many [100]")
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second [20]")
    parser.add_argument("--conversations", type=int, default=200, help="customers who write [200]")
    parser.add_argument("--restarts", type=int, default=10, help="postgres: how many, every 5-40 s [10]")
    parser.add_argument("--rounds", type=int, default=3, help="rolling: how often each process is restarted [3]")
    parser.add_argument("--hold", type=float, default=30.0, help="redis, vendors: seconds out; disk: half of it [30]")
    parser.add_argument("--serve", type=int, default=0, help="processes that serve and work [0]")
    parser.add_argument("--intake", type=int, default=2, help="processes that only serve [2]")
    parser.add_argument("--workers", type=int, default=2, help="processes that only work [2]")
    parser.add_argument("--recovery", type=float, default=180.0, help="seconds that recovery may take [180]")
    parser.add_argument("--keep", type=Path, help="a folder in which homes and logs are kept")
    options = parser.parse_args()
    unknown = set(options.names) - set(RUNS)
    if unknown:
        parser.error(f"there is no run called {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    return options


if __name__ == "__main__":
    main()
