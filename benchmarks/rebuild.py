"""`chatbotctl cache rebuild` on a large SQLite database, beside a bare pipelined redis-py loop writing the same hashes.

Both are whole processes, timed from start to end. The database is filled in SQL; afterwards Redis is asked whether it
holds what it should. Nothing heavy is imported here: see measuring.Finished.peak_mb.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import redis

from benchmarks import measuring
from benchmarks.measuring import BARE, Failed, Figure, Finished, Report
from tests.services import redis_server

#: Conversations are spread over so many businesses (bare/redis_loop.py writes the same).
BUSINESSES = 100

_NUMBERS = "WITH RECURSIVE number(n) AS (SELECT :low UNION ALL SELECT n + 1 FROM number WHERE n < :high)"
_FILL = (
    f"""{_NUMBERS} INSERT INTO businesses (id, name, whatsapp_address, backend)
        SELECT n + 1, 'business-' || n, printf('whatsapp:+1444%07d', n), 'openai' FROM number""",
    f"""{_NUMBERS} INSERT INTO clients (id, address)
        SELECT n, printf('whatsapp:+1555%07d', n) FROM number""",
    f"""{_NUMBERS} INSERT INTO business_clients (business_id, client_id, ai_thread, last_seq, done_seq)
        SELECT n % {BUSINESSES} + 1, n, printf('conv_%048x', n), 1, 1 FROM number""",
)


def measure(*, conversations: int, rounds: int) -> Report:
    """Fill a database, then write it to an empty Redis by both sides in turns, `rounds` times."""
    with tempfile.TemporaryDirectory(prefix="chatbotctl-bench-") as temporary, redis_server() as url:
        folder = Path(temporary)
        environment = measuring.environment(CHATBOTCTL_HOME=temporary, REDIS_URL=url)
        measuring.note(f"rebuild: filling a database with {conversations:,} conversations")
        measuring.run([sys.executable, "-m", "chatbotctl", "init"], environment=environment, folder=folder)
        _fill(folder / "chatbotctl.db", conversations)
        taken: dict[str, list[Finished]] = {"bare": [], "empty": [], "full": []}
        with redis.Redis.from_url(url) as client:
            for turn in range(rounds):
                measuring.note(f"rebuild: round {turn + 1} of {rounds}")
                client.flushdb()
                taken["bare"].append(_bare(url, conversations, environment, folder))
                _check(client, conversations)
                client.flushdb()
                taken["empty"].append(_rebuild(conversations, environment, folder))
                _check(client, conversations)
                taken["full"].append(_rebuild(conversations, environment, folder))
                _check(client, conversations)
    return _report(taken, conversations, rounds)


def _fill(path: Path, conversations: int) -> None:
    spans = ((0, BUSINESSES - 1), (1, conversations), (1, conversations))
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement, (low, high) in zip(_FILL, spans, strict=True):
            connection.execute(statement, {"low": low, "high": high})


def _bare(url: str, conversations: int, environment: Mapping[str, str], folder: Path) -> Finished:
    command = [sys.executable, str(BARE / "redis_loop.py"), url, str(conversations)]
    return measuring.run(command, environment=environment, folder=folder)


def _rebuild(conversations: int, environment: Mapping[str, str], folder: Path) -> Finished:
    command = [sys.executable, "-m", "chatbotctl", "--quiet", "cache", "rebuild", "--json"]
    finished = measuring.run(command, environment=environment, folder=folder)
    said = json.loads(finished.stdout)
    if (said["written"], said["removed"]) != (conversations, 0):
        raise Failed(f"cache rebuild wrote something else than {conversations} entries: {finished.stdout}")
    return finished


def _check(client: redis.Redis, conversations: int) -> None:
    """Raise Failed unless Redis holds the hashes that it should."""
    if client.dbsize() != conversations:
        raise Failed(f"Redis holds {client.dbsize()} keys instead of {conversations}")
    for number in {1, conversations // 2 + 1, conversations}:
        sender, receiver = f"whatsapp:+1555{number:07d}", f"whatsapp:+1444{number % BUSINESSES:07d}"
        expected = {b"from": sender.encode(), b"to": receiver.encode(), b"thread_id": f"conv_{number:048x}".encode()}
        if client.hgetall(f"{sender}_{receiver}") != expected:
            raise Failed(f"Redis holds something else than it should for {sender} and {receiver}")


def _report(taken: Mapping[str, list[Finished]], conversations: int, rounds: int) -> Report:
    rate = {side: conversations / statistics.median(f.seconds for f in runs) for side, runs in taken.items()}
    cpu = {side: statistics.median(f.cpu_seconds for f in runs) for side, runs in taken.items()}
    peak = {side: max(f.peak_mb for f in runs) for side, runs in taken.items()}
    return Report(
        title="rebuild: chatbotctl cache rebuild from SQLite",
        bare="a pipelined redis-py loop writing the same hashes",
        conditions={"conversations": conversations, "rounds": rounds},
        figures=[
            Figure("into an empty Redis", "conversations/s", rate["empty"], rate["bare"], aim="ratio at least 0.5"),
            Figure("over a full Redis", "conversations/s", rate["full"], rate["bare"]),
            Figure("processor time, empty Redis", "s", cpu["empty"], cpu["bare"]),
            Figure("peak memory", "MB", max(peak["empty"], peak["full"]), peak["bare"], aim="ours under 250"),
        ],
    )
