"""What the chaos runs are judged by can fail: the evidence of a sound run, spoilt in one way each, is found out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.evidence import Evidence
from tests.chaos.invariants import judge
from tests.chaos.report import Report
from tests.chaos.runs import BRISK, Plan, scene
from tests.chaos.sampling import Sample
from tests.chaos.traffic import Message, Try
from tests.chaos.world import AUTH_TOKEN, SID, TENANTS, Ask

Spoil = Callable[[Evidence], Evidence]


def with_rows(table: str, change: Callable[[list[Any]], list[Any]]) -> Spoil:
    """One table's rows changed."""

    def spoil(evidence: Evidence) -> Evidence:
        rows = [SimpleNamespace(**row._mapping) for row in evidence.rows[table]]
        return replace(evidence, rows={**evidence.rows, table: change(rows)})

    return spoil


def first(**values: object) -> Callable[[list[Any]], list[Any]]:
    """The first row with other values."""
    return lambda rows: [SimpleNamespace(**{**vars(rows[0]), **values}), *rows[1:]]


def double(rows: list[Any]) -> list[Any]:
    """The first row twice, under another id."""
    return [*rows, SimpleNamespace(**{**vars(rows[0]), "id": -1})]


def ask_again(evidence: Evidence) -> Evidence:
    """The last turn is asked for once more, at the end of all."""
    end = time.time()
    return replace(evidence, asks=[*evidence.asks, Ask(evidence.asks[-1].sids, end, end)])


def ask_twice_at_once(evidence: Evidence) -> Evidence:
    """The assistant is asked in a conversation while it still thinks in it."""
    ask = evidence.asks[0]
    return replace(evidence, asks=[*evidence.asks, Ask(ask.sids, ask.began, ask.ended)])


def send_again(evidence: Evidence) -> Evidence:
    return replace(evidence, accepted=[*evidence.accepted, evidence.accepted[-1]])


def send_elsewhere(evidence: Evidence) -> Evidence:
    stray = replace(evidence.accepted[0], recipient="whatsapp:+15559999999")
    return replace(evidence, accepted=[stray, *evidence.accepted[1:]])


def send_in_another_order(evidence: Evidence) -> Evidence:
    """Of a reply in several parts the last one leaves first."""
    return replace(evidence, accepted=evidence.accepted[::-1])


def never_store(evidence: Evidence) -> Evidence:
    """A message of which nobody knows was acknowledged."""
    tenant = TENANTS[0]
    message = Message("SM" + "0" * 32, tenant, "whatsapp:+15557650000", 1, [Try("serve-1", 0.0, 1.0, 200, "{}")])
    return replace(evidence, messages=[*evidence.messages, message])


def take_out_of_slack(*, replies: bool) -> Spoil:
    """Slack has no lines of customers, or none of replies."""

    def spoil(evidence: Evidence) -> Evidence:
        channels = {
            channel: [line for line in lines if ("Reply" in line) != replies]
            for channel, lines in evidence.channels.items()
        }
        return replace(evidence, channels=channels)

    return spoil


def store_in_another_order(rows: list[Any]) -> list[Any]:
    """What came first in a conversation stands last in it."""
    newest: dict[int, int] = {}
    for row in rows:
        newest[row.conversation_id] = max(row.seq, newest.get(row.conversation_id, 0))
    return [SimpleNamespace(**{**vars(row), "seq": newest[row.conversation_id] + 1 - row.seq}) for row in rows]


def share_a_channel(rows: list[Any]) -> list[Any]:
    """All conversations stand in the first one's channel."""
    return [SimpleNamespace(**{**vars(row), "slack_channel": rows[0].slack_channel}) for row in rows]


def post_twice(evidence: Evidence) -> Evidence:
    return replace(evidence, channels={channel: lines * 2 for channel, lines in evidence.channels.items()})


def post_in_another_order(evidence: Evidence) -> Evidence:
    return replace(evidence, channels={channel: lines[::-1] for channel, lines in evidence.channels.items()})


def add_channels(evidence: Evidence) -> Evidence:
    return replace(evidence, channels={**evidence.channels, "C-orphan": []})


def mix_up(evidence: Evidence) -> Evidence:
    """What one business's customers wrote is in a request with another's key."""
    alpha, beta = TENANTS[0].openai_key, TENANTS[1].openai_key
    bodies = {**evidence.asked_bodies, alpha: [*evidence.asked_bodies[alpha], *evidence.asked_bodies[beta]]}
    return replace(evidence, asked_bodies=bodies)


def log(words: str) -> Spoil:
    return lambda evidence: replace(evidence, logs={**evidence.logs, "serve-1": evidence.logs["serve-1"] + words})


def grow(evidence: Evidence) -> Evidence:
    evidence.sampler.seen["serve-1", 1] = [Sample(10_000.0, 10_000, 10_000)]
    return evidence


SPOILT: dict[str, tuple[Spoil, set[str]]] = {
    "a message lost": (never_store, {"I1 acknowledged, but not stored once"}),
    "a turn open": (with_rows("turns", first(state="open")), {"I1 stuck"}),
    "a conversation behind": (with_rows("business_clients", first(done_seq=0)), {"I1 stuck"}),
    "a part on its way": (with_rows("outbound_messages", first(state="sending")), {"I1 stuck"}),
    "a post owed": (with_rows("slack_posts", first(state="owed")), {"I1 stuck"}),
    "a turn given up": (with_rows("turns", first(state="dead")), {"I1 dead letters, turns"}),
    "a post given up": (with_rows("slack_posts", first(state="dead")), {"I1 dead letters, slack_posts"}),
    "no reply": (lambda evidence: replace(evidence, accepted=[]), {"I1 without a whole reply"}),
    "a part twice": (send_again, {"I2 sent twice", "I3 out of order"}),
    "a turn twice": (with_rows("turns", lambda rows: [*rows, rows[0]]), {"I2 several turns"}),
    "asked again": (ask_again, {"I2 asked again for a stored reply"}),
    "customers' lines missing": (take_out_of_slack(replies=False), {"I2 no customer line in Slack"}),
    "replies' lines missing": (take_out_of_slack(replies=True), {"I2 no reply line in Slack"}),
    "lines twice": (post_twice, {"I2 lines twice in Slack"}),
    "stored out of order": (with_rows("inbound_messages", store_in_another_order), {"I3 stored out of order"}),
    "parts out of order": (send_in_another_order, {"I3 out of order"}),
    "Slack out of order": (post_in_another_order, {"I3 out of order in Slack"}),
    "asked twice at once": (ask_twice_at_once, {"I3 two turns at once"}),
    "a channel shared": (with_rows("business_clients", share_a_channel), {"I4 a channel of several conversations"}),
    "two conversations": (with_rows("business_clients", double), {"I4 several conversations"}),
    "an orphan": (add_channels, {"I4 orphan channels"}),
    "another customer": (send_elsewhere, {"I5 sent to somebody else"}),
    "businesses mixed up": (mix_up, {"I5 another business's"}),
    "words logged": (log("Do you have bread?"), {"I5 customers' words in a log"}),
    "a secret logged": (log(AUTH_TOKEN), {"I7 a secret"}),
    "a number logged": (log("+15557650000"), {"I7 a full number"}),
    "growth": (grow, {"I8 rss_mb", "I8 threads", "I8 files"}),
}


def test_whatever_is_spoilt_in_a_sound_run_is_found(request: pytest.FixtureRequest) -> None:
    seed = int(request.config.getoption("randomly_seed"))
    with scene("sound", Plan(seed=seed, environment=BRISK, conversations=4, rate=6.0)) as under_way:
        time.sleep(3)
        under_way.traffic.send(2, parts=3)
    under_way.report.require()
    sound = under_way.evidence
    assert sound is not None

    found = {}
    for name, (spoil, broken) in SPOILT.items():
        report = Report(name, seed)
        judge(spoil(sound), report)
        found[name] = broken - report.broken.keys()

    assert SID.search(str(sound.accepted)), "something was sent"
    assert {name: missed for name, missed in found.items() if missed} == {}
