"""A run: load on an install while something is injured, recovery with no command typed, and then the invariants.

How large it is, is its `Plan`: the quick runs of `make test` and the long ones of `make chaos` differ in nothing else.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cluster import Cluster, Kind, cluster
from tests.chaos.evidence import Evidence, gather, wait_until_settled
from tests.chaos.invariants import Expected, judge
from tests.chaos.report import Report
from tests.chaos.sampling import Sampler
from tests.chaos.traffic import Traffic
from tests.chaos.world import World, world


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large a run is. Times in seconds."""

    seed: int
    #: The processes.
    kinds: tuple[Kind, ...] = (Kind.SERVE,)
    conversations: int = 20
    #: Messages a second.
    rate: float = 5.0
    #: What an answer of the assistant takes at most.
    thinking: float = 0.3
    #: Settings of the install, as environment variables.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: None: SQLite.
    database_url: str | None = None
    redis_url: str | None = None
    #: Whether processes start as forks of one that has loaded everything: a second quicker each.
    forked: bool = False
    #: Seconds that Twilio's list is behind.
    list_lag: float = 0.0
    #: How long recovery may take.
    recovery: float = 60.0
    #: Whether Slack posts of killed processes are let go at once instead of after their lease (30 s at least).
    hasten: bool = False
    #: A folder in which the install's home, with its logs, is kept; None: nowhere.
    keep: Path | None = None
    expected: Expected = field(default_factory=Expected)


#: Small times, for short runs.
BRISK = {
    "CHATBOTCTL_WORKER__LEASE_SECONDS": "3",
    "CHATBOTCTL_WORKER__SWEEP_SECONDS": "0.2",
    "CHATBOTCTL_WORKER__QUIET_SECONDS": "0.1",
    "CHATBOTCTL_SLACK__TIMEOUT_SECONDS": "2",
}


@dataclass
class Scene:
    """A run under way."""

    cluster: Cluster
    traffic: Traffic
    rng: random.Random
    report: Report
    #: What the run has left, once it is over.
    evidence: Evidence | None = None

    @property
    def world(self) -> World:
        return self.cluster.world


@contextlib.contextmanager
def scene(title: str, plan: Plan) -> Iterator[Scene]:
    """An install under load while the block lasts; then it recovers and is judged, and the report says how it went."""
    rng = random.Random(plan.seed)
    report = Report(title, plan.seed)
    stores = {} if plan.redis_url is None else {"REDIS_URL": plan.redis_url}
    with tempfile.TemporaryDirectory(prefix="chatbotctl-chaos-") as folder, world(rng) as around:
        around.openai.takes = (0.0, plan.thinking)
        around.twilio.list_lag = plan.list_lag
        with cluster(
            Path(folder),
            around,
            list(plan.kinds),
            environment={**plan.environment, **stores},
            database_url=plan.database_url,
            forked=plan.forked,
        ) as made:
            traffic = Traffic(made, rng, conversations=plan.conversations, rate=plan.rate)
            under_way = Scene(made, traffic, rng, report)
            sampler = Sampler(made)
            sampler.start()
            traffic.start()
            try:
                yield under_way
            finally:
                traffic.stop()
            took = wait_until_settled(made, seconds=plan.recovery, hasten=plan.hasten)
            sampler.stop()
            if plan.rate:
                report.note("moments at which every conversation was busy and the load fell behind", traffic.held_up)
            report.note("processes", ", ".join(member.name for member in made.members))
            report.note("recovered after the load's end in", f"{took:.1f} s")
            if plan.keep is not None:
                shutil.copytree(folder, plan.keep / title.replace(" ", "-"), dirs_exist_ok=True)
            under_way.evidence = gather(made, traffic.messages, sampler)
            judge(under_way.evidence, report, plan.expected)
