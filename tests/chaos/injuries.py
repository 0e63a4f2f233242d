"""What is done to an install while it works. Each function injures, heals, and comes back; nothing is typed to recover.

Waiting here is part of the injury: how long something is down is what it is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select

from chatbotctl.core.storage import schema
from chatbotctl.core.storage.engine import Database
from tests.acceptance.install import wait_for
from tests.chaos import stores
from tests.chaos.cluster import Member
from tests.chaos.report import quantiles
from tests.chaos.runs import Scene
from tests.chaos.stores import Postgres, Redis, SmallDisk
from tests.chaos.traffic import Message
from tests.chaos.world import sids_of
from tests.fakes.loopback import Response

Span = tuple[float, float]


def kill_at_random(scene: Scene, *, kills: int, every: Span) -> None:
    """SIGKILL a process at random, start it again, and so on; starting ones are hit too.

    Arguments:
        every: seconds from one to the next, at least and at most.
    """
    for _ in range(kills):
        time.sleep(scene.rng.uniform(*every))
        victim = scene.rng.choice([member for member in scene.cluster.members if member.pid is not None])
        victim.kill()
        victim.start(ready=False)
    for member in scene.cluster.members:
        member.wait_until_ready()
    killed = (f"{member.name} {len(member.killed_at)}" for member in scene.cluster.members)
    scene.report.note("kill -9", f"{kills} ({', '.join(killed)})")


def restart_in_turn(scene: Scene, *, rounds: int, pause: float) -> None:
    """SIGTERM one process after the other, each started again before the next: a rolling restart."""
    codes: list[int] = []
    for _ in range(rounds):
        for member in scene.cluster.members:
            codes.append(member.stop())
            member.start()
            time.sleep(pause)
    scene.report.note("restarts by SIGTERM, exit codes", f"{len(codes)}, {sorted(set(codes))}")
    if set(codes) != {0}:
        scene.report.breaks("a drain that did not finish", f"exit codes {codes}")


def restart_postgres(scene: Scene, postgres: Postgres, *, times: int, every: Span) -> None:
    """Crash PostgreSQL (`immediate`), or cut all its connections (`fast`), again and again."""
    modes: list[str] = []
    took: list[float] = []
    for _ in range(times):
        time.sleep(scene.rng.uniform(*every))
        modes.append(scene.rng.choice(["immediate", "fast"]))
        began = time.monotonic()
        postgres.restart(modes[-1])
        took.append(time.monotonic() - began)
    scene.report.note("PostgreSQL restarted", f"immediate {modes.count('immediate')}, fast {modes.count('fast')}")
    scene.report.note("each restart", quantiles(took))


def hurt_redis(scene: Scene, redis: Redis, *, hold: float, messages: int) -> None:
    """Kill it and start it again, empty it, freeze it; replies have to leave while it is away (I6)."""
    # First of all: processes that have just started answer late by themselves.
    _answered(scene, "all well", scene.traffic.send(messages))
    _while_out(scene, "Redis killed", messages, hold, redis.kill, redis.start)
    redis.empty()
    _answered(scene, "Redis emptied", scene.traffic.send(messages))
    _while_out(scene, "Redis frozen", messages, hold, redis.freeze, redis.thaw)
    # Back to normal by itself: what is answered from now on stands in the cache again.
    redis.empty()
    wait_for("Redis in use again", lambda: scene.traffic.send(1) and redis.threads())


def hurt_vendors(scene: Scene, *, hold: float, messages: int) -> None:
    """Slack refuses everything and Google never answers; replies have to leave meanwhile (I6)."""
    world = scene.world

    def injure() -> None:
        world.slack.plan(times=10**9, response=Response(503, {"ok": False, "error": "service_unavailable"}))
        world.google.plan(times=10**9, delay=60.0)

    def heal() -> None:
        world.slack.heal()
        world.google.heal()

    _answered(scene, "all well", scene.traffic.send(messages))
    _while_out(scene, "Slack and Google out", messages, hold, injure, heal)


def lock_sqlite(scene: Scene, database: Path, *, holds: Sequence[float], pause: float) -> None:
    """Another process's write transaction, for so many seconds each time."""
    for seconds in holds:
        time.sleep(pause)
        with stores.locked(database):
            time.sleep(seconds)
    scene.report.note("SQLite locked for", ", ".join(f"{seconds:g} s" for seconds in holds))
    time.sleep(pause)


def fill_disk(scene: Scene, disk: SmallDisk, *, hold: float) -> None:
    """No room left for the database: a true ENOSPC."""
    disk.fill()
    _until_refused(scene, hold)
    disk.make_room()
    scene.report.note("disk full (tmpfs, ENOSPC, SQLITE_FULL) for", f"{hold:g} s")


def limit_file_sizes(scene: Scene, *, size: int, hold: float) -> None:
    """No file may grow beyond `size` bytes (RLIMIT_FSIZE): writing meets EFBIG, SQLite says SQLITE_IOERR."""
    pids = [member.pid for member in scene.cluster.members if member.pid is not None]
    for pid in pids:
        stores.limit_files(pid, size)
    _until_refused(scene, hold)
    for pid in pids:
        stores.limit_files(pid, None)
    scene.report.note("files limited (RLIMIT_FSIZE, EFBIG, SQLITE_IOERR) for", f"{hold:g} s")


def kill_for_good(scene: Scene, workers: Sequence[Member], *, messages: int) -> list[float]:
    """Kill the process that works on most turns and leave it dead; the seconds until others had its conversations."""
    database = Database(scene.cluster.database_url, pool_size=1)
    c = schema.business_clients.c

    def owned(pid: int | None) -> set[int]:
        with database.read() as tx:
            return set(tx.scalars(select(c.id).where(c.owner.contains(f"-{pid}-"))))

    try:
        sending = scene.traffic.begin(messages)
        wait_for("all turns under way", lambda: len(scene.world.openai.asks) >= messages)
        victim = max(workers, key=lambda member: len(owned(member.pid)))
        pid = victim.pid
        victim.kill()
        began, waiting, took = time.monotonic(), owned(pid), []
        assert waiting, "whoever was asked last is at work for seconds"
        while waiting:
            left = owned(pid)
            took += [time.monotonic() - began] * len(waiting - left)
            waiting &= left
            assert time.monotonic() < began + 120, f"nobody took over conversations {sorted(waiting)}"
            time.sleep(0.02)
        sending.result()
    finally:
        database.close()
    scene.report.note("conversations of the dead process, taken over", f"{len(took)}, {quantiles(took)}")
    return took


def _until_refused(scene: Scene, hold: float) -> None:
    """Come back once a webhook was refused for want of room, and `hold` seconds have passed."""
    began = time.time()

    def refused() -> int:
        tries = [each for message in list(scene.traffic.messages) for each in list(message.tries)]
        return sum(each.began > began and each.status == 503 for each in tries)

    wait_for("a webhook refused with 503", refused)
    time.sleep(max(0.0, began + hold - time.time()))
    scene.report.note("webhooks refused with 503 meanwhile", refused())


def _while_out(
    scene: Scene, what: str, messages: int, hold: float, injure: Callable[[], None], heal: Callable[[], None]
) -> None:
    began = time.monotonic()
    injure()
    try:
        _answered(scene, what, scene.traffic.send(messages))
        time.sleep(max(0.0, began + hold - time.monotonic()))
    finally:
        heal()


def _answered(scene: Scene, what: str, messages: list[Message]) -> None:
    """Every reply has left, now, while it is out; how long each took goes into the report."""

    def left() -> dict[str, float]:
        accepted = list(scene.world.twilio.accepted)
        return {sid: each.at for each in accepted for sid in sids_of(each.body)}

    wait_for(f"replies while {what}", lambda: {message.sid for message in messages} <= left().keys())
    at = left()
    took = quantiles([at[message.sid] - message.tries[0].began for message in messages])
    scene.report.note(f"{what}: {len(messages)} messages to reply", took)
