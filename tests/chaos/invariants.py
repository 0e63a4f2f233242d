"""The invariants that hold after every run, whatever was injured: what each means is said at its check.

`judge` checks all of them on the evidence; every broken case names the MessageSid, conversation, channel or process.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.evidence import Evidence
from tests.chaos.report import Report, quantiles
from tests.chaos.world import SECRETS, TENANTS, Tenant, sids_of

#: Slack posts that one process has under way at most (flow/slack_poster.py).
POSTERS = 8
#: Turns that will not change any more.
FINAL = {"done", "dead", "withdrawn", "dropped"}
_NUMBER = re.compile(r"\+?1555765\d{4}")


@dataclass(frozen=True)
class Expected:
    """What a run may leave beside answered messages, and how large its processes may become."""

    #: Turns that end as dead letters.
    dead: int = 0
    #: Slack posts that end as dead letters.
    dead_posts: int = 0
    #: Messages without a (whole) reply.
    unanswered: int = 0
    #: Injuries that may each leave a Slack channel that nobody knows, or a Slack line twice.
    injuries: int = 0
    rss_mb: float = 250.0
    threads: int = 130
    #: A process takes 1,000 connections at most (server/listening.py).
    files: int = 1_100


def judge(evidence: Evidence, report: Report, expected: Expected = Expected()) -> None:
    """Check every invariant."""
    for check in (answered, once, in_order, in_their_places, apart, secret, bounded):
        check(evidence, report, expected)
    replies_took(evidence, report)


def answered(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I1: what was acknowledged is stored once and has come to its end; nothing is stuck, nothing given up."""
    stored = Counter(row.sid for row in evidence.rows["inbound_messages"])
    turn_of = evidence.turn_of
    acknowledged = [message for message in evidence.messages if message.acknowledged is not None]
    for message in acknowledged:
        if stored[message.sid] != 1:
            report.breaks("I1 acknowledged, but not stored once", f"{message.sid}: {stored[message.sid]} rows")
    for sid in stored:
        turn = turn_of.get(sid)
        if turn is None or turn.state not in FINAL:
            report.breaks("I1 stuck", f"{sid}: turn {turn.id} is {turn.state}" if turn else f"{sid}: no turn")
    for row in evidence.rows["business_clients"]:
        if row.last_seq != row.done_seq:
            report.breaks("I1 stuck", f"conversation {row.id}: {row.done_seq} of {row.last_seq} done")
    for table, states in (("outbound_messages", {"ready", "sending"}), ("slack_posts", {"owed", "posting"})):
        for row in evidence.rows[table]:
            if row.state in states:
                report.breaks("I1 stuck", f"{table} {row.id} of conversation {row.conversation_id} is {row.state}")
    for table, most in (("turns", expected.dead), ("slack_posts", expected.dead_posts)):
        dead = [row for row in evidence.rows[table] if row.state == "dead"]
        report.note(f"dead letters, {table}", f"{len(dead)} (expected {most})")
        if len(dead) != most:
            for row in dead:
                report.breaks(
                    f"I1 dead letters, {table}", f"{row.id} of conversation {row.conversation_id}: {_why(row)}"
                )
    missing = _unanswered(evidence)
    report.note(
        "messages sent / acknowledged / stored", f"{len(evidence.messages)} / {len(acknowledged)} / {len(stored)}"
    )
    report.note("acknowledged at the first copy", sum(message.tries[0].is_ack for message in acknowledged))
    report.note("acknowledged after Twilio would have given up", sum(message.is_late for message in acknowledged))
    never = [message for message in evidence.messages if message.acknowledged is None]
    report.note("never acknowledged", f"{len(never)}, of which stored {sum(stored[m.sid] for m in never)}")
    report.note("messages without a whole reply", f"{len(missing)} (expected at most {expected.unanswered})")
    if len(missing) > expected.unanswered:
        for case in missing:
            report.breaks("I1 without a whole reply", case)


def once(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I2: no part of a reply was sent twice, no turn answered anew once its reply was stored, no line missing in Slack.

    Slack after a kill is documented to be at least once: lines that stand twice are counted and bounded by the kills.
    """
    parts = Counter((sid, part.number) for _, part in evidence.sent_parts for sid in part.sids)
    for (sid, number), times in parts.items():
        if times > 1:
            report.breaks("I2 sent twice", f"{sid}: part {number}, {times} times")
    for sid, turns in evidence.turns_of.items():
        if len(turns) > 1:
            report.breaks("I2 several turns", f"{sid}: {', '.join(str(turn.id) for turn in turns)}")
    turn_of = evidence.turn_of
    asks = Counter(sid for ask in evidence.asks for sid in ask.sids)
    for ask in evidence.asks:
        for sid in ask.sids:
            turn = turn_of.get(sid)
            if turn is not None and turn.answered_at is not None and ask.began > turn.answered_at + 0.005:
                report.breaks("I2 asked again for a stored reply", f"{sid}: turn {turn.id}")
    repeated = sum(times - 1 for times in asks.values() if times > 1)
    customers, replies = _slack_lines(evidence)
    doubled = sum(times - 1 for lines in (customers, replies) for times in lines.values() if times > 1)
    for sid in turn_of:
        if not customers[sid]:
            report.breaks("I2 no customer line in Slack", sid)
        if turn_of[sid].state == "done" and not replies[sid]:
            report.breaks("I2 no reply line in Slack", sid)
    if doubled > expected.injuries * POSTERS:
        report.breaks("I2 lines twice in Slack", f"{doubled}, after {expected.injuries} injuries")
    counts = (len(evidence.rows["turns"]), len(evidence.sent_parts), _doubled(parts))
    report.note("turns / parts sent / doubled", " / ".join(map(str, counts)))
    report.note("asked again (no reply was stored)", repeated)
    report.note("Slack lines, of which standing twice", f"{sum(map(len, evidence.channels.values()))}, {doubled}")


def in_order(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I3: replies leave in the order of the messages, parts in theirs, and no conversation is asked twice at once."""
    place = _places(evidence)
    last: dict[int, tuple[int, int]] = {}
    for _, part in evidence.sent_parts:
        conversation, seq = place.get(part.sids[-1], (0, 0))
        if (seq, part.number) <= last.get(conversation, (0, 0)):
            report.breaks("I3 out of order", f"{part.sids[-1]}: part {part.number} to conversation {conversation}")
        last[conversation] = (seq, part.number)
    for before, after in _one_after_the_other(evidence):
        if before in place and after in place and place[before][1] > place[after][1]:
            report.breaks("I3 stored out of order", f"{after} before {before}, which was acknowledged first")
    for channel, lines in evidence.channels.items():
        # A line that stands twice was in its place when it came first.
        came = dict.fromkeys(sid for line in lines if "Reply" not in line for sid in sids_of(line) if sid in place)
        for sid, following in pairwise(came):
            if place[sid] > place[following]:
                report.breaks("I3 out of order in Slack", f"{channel}: {following} after {sid}")
    by_conversation = defaultdict(list)
    for ask in evidence.asks:
        if ask.sids and ask.sids[0] in place:
            by_conversation[place[ask.sids[0]][0]].append(ask)
    for conversation, asks in by_conversation.items():
        asks.sort(key=lambda ask: ask.began)
        for one, other in pairwise(asks):
            # What a killed process asked is still answered, to nobody.
            is_cut = any(one.began <= at <= other.began for at in evidence.killed_at)
            if (one.ended is None or other.began < one.ended) and not is_cut:
                report.breaks("I3 two turns at once", f"conversation {conversation}: {one.sids[0]} and {other.sids[0]}")


def in_their_places(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I4: one conversation for each business and customer; each Slack channel belongs to one, but for a few orphans.

    An orphan is left where a process is killed between Slack's making a channel and our writing it down.
    """
    pairs = Counter(evidence.pair_of.values())
    for pair, times in pairs.items():
        if times > 1:
            report.breaks("I4 several conversations", f"{pair}: {times}")
    used = Counter(row.slack_channel for row in evidence.rows["business_clients"] if row.slack_channel)
    for channel, times in used.items():
        if times > 1:
            report.breaks("I4 a channel of several conversations", f"{channel}: {times}")
    orphans = [channel for channel in evidence.channels if channel not in used]
    report.note("conversations / Slack channels / orphans", f"{len(pairs)} / {len(evidence.channels)} / {len(orphans)}")
    if len(orphans) > expected.injuries:
        report.breaks("I4 orphan channels", f"{len(orphans)} after {expected.injuries} injuries")


def apart(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I5: nothing that is one business's stands in anything of another's, nor in any log."""
    meant = {message.sid: message.conversation for message in evidence.messages}
    tenant_of = {conversation: _tenant(pair[0]) for conversation, pair in evidence.pair_of.items()}
    looked = 0

    def look(owner: Tenant, where: str, text: str) -> None:
        nonlocal looked
        looked += len(text)
        for other in TENANTS:
            if other != owner and (other.canary in text or other.openai_key in text):
                report.breaks("I5 another business's", f"{where} of {owner.name} holds something of {other.name}")

    for table, rows in evidence.rows.items():
        for row in rows:
            if hasattr(row, "conversation_id"):
                look(tenant_of[row.conversation_id], f"{table} {row.id}", str(row))
    for accepted in evidence.accepted:
        look(_tenant(accepted.sender), f"a message to {accepted.recipient}", accepted.body)
        for sid in sids_of(accepted.body):
            if sid not in meant or meant[sid] != (accepted.sender, accepted.recipient):
                report.breaks("I5 sent to somebody else", f"{sid}: to {accepted.recipient}")
    for row in evidence.rows["business_clients"]:
        for reading in evidence.channels.get(row.slack_channel, ()):
            look(tenant_of[row.id], f"Slack channel {row.slack_channel}", reading)
    for tenant in TENANTS:
        for body in evidence.asked_bodies.get(tenant.openai_key, ()):
            look(tenant, "a request to OpenAI", body)
    for name, log in evidence.logs.items():
        if "canary" in log or "bread" in log:
            report.breaks("I5 customers' words in a log", name)
    report.note("searched for another business's canaries", f"{looked / 1e6:.1f} MB")


def secret(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I7: no secret in a log, an HTTP answer, a row or a command line; no full number in a log."""
    places = {
        **{f"log of {name}": log for name, log in evidence.logs.items()},
        **{f"answer to {message.sid}": made.said for message in evidence.messages for made in message.tries},
        **{f"command line {line[:40]}": line for line in evidence.command_lines},
    }
    for table, rows in evidence.rows.items():
        places[f"table {table}"] = "\n".join(map(str, rows))
    for where, text in places.items():
        if any(each in text for each in SECRETS):
            report.breaks("I7 a secret", where)
        if where.startswith("log") and _NUMBER.search(text):
            report.breaks("I7 a full number", where)


def bounded(evidence: Evidence, report: Report, expected: Expected) -> None:
    """I8: memory, threads and open files of every process stay below their bounds."""
    seen = evidence.sampler.seen

    def most(what: str) -> float:
        return max((getattr(sample, what) for samples in seen.values() for sample in samples), default=0)

    report.note("most of one process", f"{most('rss_mb'):.0f} MB, {most('threads')} threads, {most('files')} files")
    for (name, pid), samples in seen.items():
        for what, bound in (("rss_mb", expected.rss_mb), ("threads", expected.threads), ("files", expected.files)):
            reached = max(getattr(sample, what) for sample in samples)
            if reached > bound:
                report.breaks(f"I8 {what}", f"{name} (process {pid}): {reached:.0f}, bound {bound:.0f}")


def replies_took(evidence: Evidence, report: Report) -> None:
    """How long customers waited for the whole reply, and Twilio for its answer."""
    last: dict[str, float] = {}
    for accepted, part in evidence.sent_parts:
        for sid in part.sids:
            last[sid] = accepted.at
    report.note(
        "customer's message to whole reply",
        quantiles([last[m.sid] - m.tries[0].began for m in evidence.messages if m.sid in last and m.tries]),
    )
    tries = [each for message in evidence.messages for each in message.tries]
    report.note("webhook's answer", quantiles([each.ended - each.began for each in tries if each.status is not None]))
    statuses = Counter(str(each.status or each.said) for each in tries)
    report.note("copies sent, by answer", ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items())))


def _unanswered(evidence: Evidence) -> list[str]:
    """Stored messages of which not every part has left, and why."""
    left = defaultdict(set)
    of: dict[str, int] = {}
    for _, part in evidence.sent_parts:
        for sid in part.sids:
            left[sid].add(part.number)
            of[sid] = part.of
    states = defaultdict(list)
    for row in evidence.rows["outbound_messages"]:
        states[row.turn_id].append(row.state)
    missing = []
    for sid, turn in evidence.turn_of.items():
        if len(left[sid]) < of.get(sid, 1):
            parts = ", ".join(states[turn.id]) or "none"
            missing.append(f"{sid}: turn {turn.id} {turn.state}, {_why(turn)}, parts {parts}, left {sorted(left[sid])}")
    return missing


def _slack_lines(evidence: Evidence) -> tuple[Counter[str], Counter[str]]:
    """How often each sid stands in Slack in a customer's line, and in a reply's."""
    customers: Counter[str] = Counter()
    replies: Counter[str] = Counter()
    for readings in evidence.channels.values():
        for reading in readings:
            # Of a reply in several parts each names the sids.
            (replies if "Reply 1/" in reading else customers).update(sids_of(reading))
    return customers, replies


def _places(evidence: Evidence) -> dict[str, tuple[int, int]]:
    """MessageSid -> its conversation and its number in it."""
    return {row.sid: (row.conversation_id, row.seq) for row in evidence.rows["inbound_messages"]}


def _one_after_the_other(evidence: Evidence) -> list[tuple[str, str]]:
    """Pairs of messages of one conversation of which the second was sent once the first was acknowledged."""
    by_pair = defaultdict(list)
    for message in evidence.messages:
        if message.tries:
            by_pair[message.conversation].append(message)
    pairs = []
    for messages in by_pair.values():
        messages.sort(key=lambda message: message.tries[0].began)
        for one, other in pairwise(messages):
            first = one.acknowledged
            if first is not None and first.ended <= other.tries[0].began:
                pairs.append((one.sid, other.sid))
    return pairs


def _tenant(number: str) -> Tenant:
    return next(tenant for tenant in TENANTS if tenant.number == number)


def _doubled(parts: Counter[tuple[str, int]]) -> int:
    return sum(times - 1 for times in parts.values() if times > 1)


def _why(row: Any) -> str:
    return row.error_code or "no error"
