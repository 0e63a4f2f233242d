"""Taking messages in: a signed POST /whatsapp that is stored and answered `queued`, beside the bare server.

No worker runs, so that nothing but taking in is measured. Both servers are up, and the same load goes to one after the
other, in turns.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from benchmarks import load, measuring, site
from benchmarks.measuring import Failed, Figure, Report, Server, percentile

#: Customers that the load comes from.
CONVERSATIONS = 1000


@dataclass
class Times:
    """What was measured of one server over all rounds."""

    seconds: list[float] = field(default_factory=list)
    #: Requests per second of each round.
    rates: list[float] = field(default_factory=list)

    def add(self, sent: list[load.Sent]) -> None:
        """Add one round."""
        self.seconds.extend(one.seconds for one in sent)
        self.rates.append(len(sent) / (max(one.answered_at for one in sent) - sent[0].at))


def measure(*, messages: int, connections: int, rounds: int) -> list[Report]:
    """Measure on both stores.

    Arguments:
        messages: sent to each server in a round.
    """
    return [_on(name, messages, connections, rounds) for name in (site.SQLITE, site.POSTGRES)]


def _on(name: str, messages: int, connections: int, rounds: int) -> Report:
    ours, bare = Times(), Times()
    with (
        site.store(name) as store,
        store.serve(with_worker=False, CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS="0") as product,
        store.bare() as baseline,
    ):
        for server in (product, baseline):  # connections, statement caches, bytecode; all conversations are there
            round_of(server, CONVERSATIONS, connections)
        for turn in range(rounds):
            measuring.note(f"accepting: {name}, round {turn + 1} of {rounds}")
            bare.add(round_of(baseline, messages, connections))
            sent = round_of(product, messages, connections)
            if any(b'"queued": true' not in one.answer for one in sent):
                raise Failed("a message was not queued, although nobody works on it")
            ours.add(sent)
    return Report(
        title=f"accepting: POST /whatsapp on {name}",
        bare="Flask and waitress, the same signature, one durable insert per request",
        conditions={"connections": connections, "messages": messages, "rounds": rounds},
        figures=[
            Figure(
                "accepted", "requests/s", statistics.median(ours.rates), statistics.median(bare.rates), "at least 0.7"
            ),
            _latency(ours, bare, 50),
            _latency(ours, bare, 99, "under 2"),
        ],
    )


def round_of(server: Server, messages: int, connections: int) -> list[load.Sent]:
    """One round of one server."""
    webhooks = load.webhooks(messages, conversations=CONVERSATIONS)
    return load.send([server.port], webhooks, connections=connections)


def _latency(ours: Times, bare: Times, percent: int, aim: str = "") -> Figure:
    our_ms, bare_ms = (percentile(times.seconds, percent) * 1000 for times in (ours, bare))
    return Figure(f"answered, p{percent}", "ms", our_ms, bare_ms, aim)
