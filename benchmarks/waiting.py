"""Many conversations that wait for a slow AI at once, in one process; and webhooks that come in meanwhile."""

from __future__ import annotations

import resource

from benchmarks import load, measuring, site
from benchmarks.measuring import Failed, Figure, Report
from benchmarks.outside import outside

#: Seconds that the AI takes: where all is done, and where webhooks wait for their replies.
THINKING, LONG_THINKING = 5.0, 8.0
#: Seconds that a webhook waits for its reply, where it may.
REPLY_WAIT = 10.0
#: Connections at once.
CONNECTIONS = 32
#: Webhooks per second while the AI thinks.
PER_SECOND = 200.0


def measure(*, conversations: int) -> list[Report]:
    """Measure on SQLite: so many conversations, and as many turns at once."""
    _allow_files()
    return [_all_done(conversations), _others_meanwhile(conversations)]


def _settings(conversations: int) -> dict[str, str]:
    return {
        "CHATBOTCTL_WORKER__CONCURRENCY": str(max(2, conversations)),
        # Ten businesses share evenly; the default would leave room for an eleventh.
        "CHATBOTCTL_WORKER__BUSINESS_SHARE": "1",
    }


def _all_done(conversations: int) -> Report:
    measuring.note(f"waiting: {conversations} conversations, {THINKING:g} s")
    settings = _settings(conversations) | {"CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS": "0"}
    with (
        site.store(site.SQLITE) as store,
        outside(store.folder, thinking=THINKING) as out,
        store.serve(out, **settings) as server,
    ):
        webhooks = load.webhooks(conversations, conversations=conversations)
        sent = load.send([server.port], webhooks, connections=CONNECTIONS)
        replies = out.replies(conversations, seconds=120)
        peak = server.peak_mb
    return Report(
        title=f"waiting: {conversations:,} conversations, one process, {THINKING:g} s for the AI",
        bare="the AI's time alone",
        conditions={"conversations": conversations, "concurrency": conversations},
        figures=[
            Figure("all replied to", "s", max(at for _, at in replies) - sent[0].at, THINKING, "within 1.4"),
            Figure("peak memory", "MB", peak, aim="under 250"),
        ],
    )


def _others_meanwhile(conversations: int) -> Report:
    measuring.note(f"waiting: {conversations} conversations, {LONG_THINKING:g} s, webhooks meanwhile")
    settings = _settings(conversations) | {"CHATBOTCTL_SERVER__REPLY_WAIT_SECONDS": str(REPLY_WAIT)}
    with (
        site.store(site.SQLITE) as store,
        outside(store.folder, thinking=LONG_THINKING) as out,
        store.serve(out, **settings) as server,
    ):
        # The first half finds threads free; the others come while those wait.
        webhooks = load.webhooks(2 * conversations, conversations=2 * conversations)
        sent = load.send([server.port], webhooks, connections=CONNECTIONS, per_second=PER_SECOND)
        out.replies(2 * conversations, seconds=120)
    # Whoever waited in vain is told `queued` as well, when the time is up.
    waiters = [one for one in sent if b'"queued"' not in one.answer or one.seconds >= REPLY_WAIT]
    others = [one for one in sent if b'"queued"' in one.answer and one.seconds < REPLY_WAIT]
    if not waiters or not others:
        raise Failed("nobody waited, or everybody did")
    return Report(
        title=f"waiting: {LONG_THINKING:g} s for the AI, webhooks wait up to 10 s for their reply, 8 of them at once",
        bare="nothing",
        conditions={"conversations": len(sent), "per second": PER_SECOND, "waited for the reply": len(waiters)},
        figures=[
            Figure("longest wait of the others", "ms", max(one.seconds for one in others) * 1000, aim="under 1,000"),
            Figure("others, p99", "ms", measuring.percentile([one.seconds for one in others], 99) * 1000),
        ],
    )


def _allow_files() -> None:
    """One connection for each conversation, in the process that is the outside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
