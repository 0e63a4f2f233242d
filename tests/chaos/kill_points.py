"""kill -9 at each fail point of a message's path, then a start without it: what became of every message of the round.

Each point has an install of its own, killed round after round; several installs run side by side, because a round is
mostly waiting for a lease to run out.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from chatbotctl.core.failpoints import POINTS
from chatbotctl.core.storage.engine import Database
from tests import services
from tests.acceptance.install import wait_for
from tests.breakable_servers import BreakableRedis
from tests.chaos import evidence
from tests.chaos.cluster import Member
from tests.chaos.report import Report, quantiles
from tests.chaos.runs import Plan, Scene, scene
from tests.chaos.traffic import Message

#: Seconds from the start of a process within which all is answered that the killed one left.
RECOVERED_SECONDS = 30.0
#: Seconds after which nothing is waited for any more.
PATIENCE = 120.0
#: Points that are reached once for each part of a reply.
OF_PARTS = ("sending", "sent_not_recorded", "recorded")
#: A single message, answered in three parts.
ALONE = ((3,),)
#: Several at once, a burst among them: 5 messages, 4 or 5 turns, 7 or 8 parts.
CROWD = ((3,), (1,), (1, 1), (2,))
#: Visits to a point that a crowd makes for certain.
CROWD_TURNS, CROWD_PARTS = 4, 7
#: Odd: whose turn it is alternates between the two businesses, one for each backend.
CONVERSATIONS = 7
#: Whose figures make up the summary of a run.
_FIGURES = (
    "kill -9",
    "at work after the start in",
    "recovered after the start in",
    "turns / parts sent / doubled",
    "messages without a whole reply",
    "asked again (no reply was stored)",
    "parts looked for in Twilio's list",
    "copies sent, by answer",
    "Slack lines, of which standing twice",
)


@dataclass(frozen=True)
class Round:
    """One kill: where, at which visit, and who writes."""

    point: str
    nth: int
    bursts: Sequence[Sequence[int]]
    #: Whether webhooks wait for the reply, so that the kill cuts them off, or are acknowledged at once.
    waits: bool

    @property
    def is_alone(self) -> bool:
        return self.bursts is ALONE

    @property
    def environment(self) -> dict[str, str]:
        """The life that ends at the point."""
        armed = {"CHATBOTCTL_TESTING": "1", "CHATBOTCTL_FAILPOINT": f"{self.point}@{self.nth}:kill"}
        return armed | self.environment_afterwards

    @property
    def environment_afterwards(self) -> dict[str, str]:
        """The life after it."""
        return {"CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS": "10" if self.waits else "0"}

    def __str__(self) -> str:
        return f"{self.point}@{self.nth}, {'alone' if self.is_alone else 'in a crowd'}"


def rounds_of(point: str, count: int, rng: random.Random) -> list[Round]:
    """So many rounds for a point: of five, those with a single message come first (every part of its reply in turn)."""
    rounds = []
    for number in range(count):
        place = number % 5
        if point == "mirrored":
            # Always alone, so that no post but the one that was recorded is under way: none may stand twice.
            one = Round(point, 1 + number % 2, ALONE, waits=place % 2 == 0)
        elif point in OF_PARTS:
            crowded = Round(point, rng.randint(1, CROWD_PARTS), CROWD, waits=place % 2 == 0)
            one = Round(point, place + 1, ALONE, waits=place % 2 == 0) if place < 3 else crowded
        else:
            crowded = Round(point, rng.randint(1, CROWD_TURNS), CROWD, waits=place % 2 == 0)
            # Acknowledged before the turn begins: nobody sends it again.
            one = Round(point, 1, ALONE, waits=point != "acknowledged" and number % 4 > 1) if place < 2 else crowded
        rounds.append(one)
    return rounds


def at_every_point(plan: Plan, *, kills: int, at_once: int, within: float, server: str | None) -> Report:
    """Kill so many times at each point, and judge each point's install by the invariants.

    Arguments:
        at_once: installs side by side.
        within: seconds from each start within which everything has to be answered.
        server: a PostgreSQL, on which each install gets a database, beside a Redis of its own; None: SQLite.
    """
    store = "SQLite" if server is None else "PostgreSQL and Redis"
    whole = Report(f"kill -9 at every fail point, {store}", plan.seed)

    def run(number: int) -> Report:
        numbered = replace(plan, seed=plan.seed + number)
        return _at_one_point(numbered, POINTS[number], kills=kills, within=within, server=server)

    with ThreadPoolExecutor(at_once) as pool:
        for point, report in zip(POINTS, pool.map(run, range(len(POINTS))), strict=True):
            figures = dict(report.figures)
            for name in _FIGURES:
                whole.note(f"{point}: {name}", figures.get(name, "-"))
            for invariant, cases in report.broken.items():
                for case in cases:
                    whole.breaks(invariant, f"{point}: {case}")
    return whole


def _at_one_point(plan: Plan, point: str, *, kills: int, within: float, server: str | None) -> Report:
    strict = point == "mirrored"
    plan = replace(
        plan,
        rate=0,
        conversations=CONVERSATIONS,
        expected=replace(plan.expected, injuries=0 if strict else 2 * kills),
        # Its posts' leases end with the posts: nothing has to be let go of, and nothing may be posted twice.
        hasten=plan.hasten and not strict,
    )
    with contextlib.ExitStack() as stack:
        if server is not None:
            url = stack.enter_context(services.fresh_database(server))
            plan = replace(plan, database_url=url, redis_url=stack.enter_context(BreakableRedis()).url)
        with scene(point, plan) as under_way:
            rounds = rounds_of(point, kills, under_way.rng)
            started: list[float] = []
            took: list[float] = []
            for one in rounds:
                at_work, recovered = _round(under_way, one)
                started.append(at_work)
                took.append(recovered)
                if recovered > within:
                    case = f"{one}: {recovered:.1f} s, of which {at_work:.1f} s until the process was at work"
                    under_way.report.breaks(f"not recovered within {within:g} s", case)
                if recovered > PATIENCE:
                    break
                if strict:
                    # Nothing but the post at which it is killed may be under way.
                    evidence.wait_until_settled(under_way.cluster, seconds=60, hasten=False)
            report = under_way.report
            report.note("kill -9", f"{len(took)}, {sum(one.is_alone for one in rounds)} of them with a single message")
            report.note("at work after the start in", quantiles(started))
            report.note("recovered after the start in", quantiles(took))
            report.note("parts looked for in Twilio's list", _looked_up(under_way))
    return report


def _looked_up(under_way: Scene) -> str:
    """Parts whose fate was unknown; more looks than parts tell that the list was waited for."""
    (member,) = under_way.cluster.members
    found = re.findall(r'"found": (true|false), "event": "message_looked_up"', member.log)
    looks = len(under_way.world.twilio.seen("Messages", "GET"))
    return f"{len(found)}, in {looks} looks; {found.count('true')} had left"


def _round(under_way: Scene, one: Round) -> tuple[float, float]:
    """Kill at the point, start again.

    Returns the seconds from that start until the process was at work, and until all was answered (or given up).
    """
    (member,) = under_way.cluster.members
    member.kill()  # it has nothing to do for any customer
    member.start(**one.environment)
    sending = under_way.traffic.begin_bursts(one.bursts)
    _require_killed(member, one)
    began = time.monotonic()
    member.start(**one.environment_afterwards)
    at_work = time.monotonic() - began
    _wait_until_answered(under_way, sending.done)
    took = time.monotonic() - began
    _require_asked(under_way, one, sending.result())
    return at_work, took


def _require_killed(member: Member, one: Round) -> None:
    """The process has died at the point, or the round proves nothing."""
    try:
        code = member.ended()
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{one} was never reached:\n{member.log[-2000:]}") from None
    member.killed_at.append(time.time())
    assert code == -signal.SIGKILL, f"{one}: it ended with {code}:\n{member.log[-2000:]}"


def _wait_until_answered(under_way: Scene, is_sent: Callable[[], bool]) -> None:
    """Come back once every message has been taken and every reply has left, or when nobody waits any more."""
    database = Database(under_way.cluster.database_url, pool_size=1)

    def answered() -> bool:
        left = evidence.unsettled(database)
        return is_sent() and not (left.conversations or left.turns or left.parts)

    try:
        with contextlib.suppress(AssertionError):  # the invariants tell what is missing
            wait_for("every reply", answered, seconds=PATIENCE + 1)
    finally:
        database.close()


def _require_asked(under_way: Scene, one: Round, messages: Sequence[Message]) -> None:
    """The AI is asked once; again only where no reply was stored and the backend keeps no conversation to look into."""
    asks = Counter(sid for ask in list(under_way.world.openai.asks) for sid in ask.sids)
    for message in messages:
        fewest = most = 1
        if message.tenant.backend == "chat":
            lost = one.point == "asked"
            fewest, most = (1 + lost, 1 + lost) if one.is_alone else (1, 2)
        if not fewest <= asks[message.sid] <= most:
            case = f"{one}, {message.tenant.backend} backend: {message.sid} {asks[message.sid]} times"
            under_way.report.breaks("asked more or less often than was needed", case)
        if message.acknowledged is None:
            under_way.report.breaks("never acknowledged", f"{one}: {message.sid}")
