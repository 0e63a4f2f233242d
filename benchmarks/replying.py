"""From webhook to reply: messages per second until Twilio was asked to send the last reply, beside the bare server.

The AI answers at once, and it and Twilio are a process of their own (outside.py). Webhooks are answered `queued` as
soon as their messages are stored, so that the load is as high as it can be.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Sequence

from benchmarks import load, measuring, site
from benchmarks.accepting import Times
from benchmarks.measuring import Failed, Figure, Process, Report, Server
from benchmarks.outside import Outside, outside
from tests import services

#: Customers that the load comes from, where there are as many messages.
CONVERSATIONS = 1000
#: Worker processes on PostgreSQL.
WORKERS = 2
#: Seconds that the last replies are waited for.
PATIENCE = 120.0

_SHAPES = {site.SQLITE: "one process", site.POSTGRES: f"a server and {WORKERS} workers"}
_AT_ONCE = {"CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS": "0"}


def measure(*, messages: int, connections: int, rounds: int, backend: str) -> list[Report]:
    """Measure on both stores: one process on SQLite; on PostgreSQL a server and two workers, woken through Redis.

    Arguments:
        messages: sent to each side in a round.
        backend: the businesses' assistant: `openai` or `chat` (over HTTP), or `knowledge` (inside the process).
    """
    on_sqlite = _on(site.SQLITE, messages, connections, rounds, backend, "at least 0.35")
    return [on_sqlite, _on(site.POSTGRES, messages, connections, rounds, backend, "at least 0.25")]


def _on(name: str, messages: int, connections: int, rounds: int, backend: str, aim: str) -> Report:
    rates, cpu, bare = [], [], Times()
    conversations = min(messages, CONVERSATIONS)
    with (
        site.store(name, backend=backend) as store,
        outside(store.folder) as out,
        store.bare() as baseline,
        _processes(store, out) as (server, processes),
    ):
        everyone = load.webhooks(conversations, conversations=conversations)
        for turn in range(-1, rounds):
            # The first is for connections, caches and the AI's conversations; every customer writes in it.
            webhooks = everyone if turn < 0 else load.webhooks(messages, conversations=conversations)
            measuring.note(f"replying: {name}, round {turn + 1} of {rounds}")
            accepted = load.send([baseline.port], webhooks, connections=connections)
            before = sum(process.cpu_seconds for process in processes)
            rate = _round(server, out, webhooks, connections)
            if turn >= 0:
                bare.add(accepted)
                rates.append(rate)
                cpu.append((sum(process.cpu_seconds for process in processes) - before) / messages * 1000)
    return Report(
        title=f"replying: webhook to reply on {name}, {_SHAPES[name]}",
        bare="Flask and waitress, the same signature, one durable insert per request, no reply",
        conditions={
            "conversations": conversations,
            "connections": connections,
            "messages": messages,
            "rounds": rounds,
            "backend": backend,
        },
        figures=[
            Figure("end to end", "messages/s", statistics.median(rates), statistics.median(bare.rates), aim),
            Figure("processor time per message", "ms", statistics.median(cpu)),
        ],
    )


@contextlib.contextmanager
def _processes(store: site.Store, out: Outside) -> Iterator[tuple[Server, list[Process]]]:
    """The server, and all processes that do the work: it alone on SQLite, else two workers beside it, and a Redis."""
    with contextlib.ExitStack() as stack:
        if store.name == site.SQLITE:
            server = stack.enter_context(store.serve(out, **_AT_ONCE))
            yield server, [server]
            return
        settings = _AT_ONCE | {"REDIS_URL": stack.enter_context(services.redis_server())}
        workers = [stack.enter_context(store.worker(out, **settings)) for _ in range(WORKERS)]
        server = stack.enter_context(store.serve(out, with_worker=False, **settings))
        yield server, [server, *workers]


def _round(server: Server, out: Outside, webhooks: Sequence[load.Webhook], connections: int) -> float:
    """Messages per second, until the last was replied to."""
    out.forget()
    sent = load.send([server.port], webhooks, connections=connections)
    replies = out.replies(len(webhooks), seconds=PATIENCE)
    if sorted(to for to, _ in replies) != sorted(webhook.customer for webhook in webhooks):
        raise Failed("the replies did not go to who had written")
    return len(webhooks) / (max(at for _, at in replies) - sent[0].at)
