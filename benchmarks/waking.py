"""How soon work starts on a message that comes in while nothing else does, and how soon it is answered."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sqlalchemy import select

from benchmarks import load, measuring, site
from benchmarks.measuring import Failed, Figure, Report, Server, percentile
from benchmarks.outside import Outside, outside
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import inbound_messages, turns
from tests import services

#: Messages per second: each finds the process idle.
PER_SECOND = 20.0


def measure(*, messages: int) -> list[Report]:
    """Measure one process on SQLite, and on PostgreSQL a server and a worker that is woken through Redis."""
    aims = {site.SQLITE: ("under 5", "under 15"), site.POSTGRES: ("under 10", "under 25")}
    return [_on(name, messages, *aim) for name, aim in aims.items()]


@contextlib.contextmanager
def _serving(store: site.Store, out: Outside) -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        if store.name == site.SQLITE:
            yield stack.enter_context(store.serve(out))
            return
        settings = {"REDIS_URL": stack.enter_context(services.redis_server())}
        stack.enter_context(store.worker(out, **settings))
        yield stack.enter_context(store.serve(out, with_worker=False, **settings))


def _on(name: str, messages: int, aim_50: str, aim_99: str) -> Report:
    measuring.note(f"waking: {name}, {messages} messages")
    with site.store(name) as store, outside(store.folder) as out:
        with _serving(store, out) as server:
            ports = [server.port]
            load.send(ports, load.webhooks(20, conversations=20, first=1_000_000), connections=1)
            out.forget()
            webhooks = load.webhooks(messages, conversations=messages)
            # Twilio's clock and ours are one: that of the machine.
            wall = time.time() - time.monotonic()
            sent = load.send(ports, webhooks, connections=4, per_second=PER_SECOND)
            replied = dict(out.replies(messages, seconds=30))
        started = _started(store.url)
    if missing := [one for one in sent if one.webhook.sid not in started]:
        raise Failed(f"{len(missing)} messages without a turn")
    begun = [started[one.webhook.sid] - wall - one.at for one in sent]
    done = [replied[one.webhook.customer] - one.at for one in sent]
    return Report(
        title=f"waking: webhook to start of work on {name}{'' if name == site.SQLITE else ', through Redis'}, idle",
        bare="nothing",
        conditions={"messages": messages, "per second": PER_SECOND},
        figures=[
            Figure("turn opened, p50", "ms", percentile(begun, 50) * 1000, aim=aim_50),
            Figure("turn opened, p99", "ms", percentile(begun, 99) * 1000, aim=aim_99),
            Figure("reply sent, p50", "ms", percentile(done, 50) * 1000),
            Figure("reply sent, p99", "ms", percentile(done, 99) * 1000),
            Figure("webhook answered, p50", "ms", percentile([one.seconds for one in sent], 50) * 1000),
            Figure("webhook answered, p99", "ms", percentile([one.seconds for one in sent], 99) * 1000),
        ],
    )


def _started(url: str) -> dict[str, float]:
    """Sid -> when its turn was opened, by the database's clock."""
    query = select(inbound_messages.c.sid, turns.c.started_at).join(
        turns,
        (turns.c.conversation_id == inbound_messages.c.conversation_id) & (turns.c.first_seq == inbound_messages.c.seq),
    )
    with contextlib.closing(Database(url)) as database, database.read() as tx:
        return {row.sid: row.started_at for row in tx.execute(query)}
