"""The table of what Slack can do wrong with a post, and what comes of each; the customer's reply never waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatbotctl.core.flow.retry_policy import PutOff
from chatbotctl.core.flow.slack_poster import claim_in, deliver_post
from chatbotctl.core.records.message import Result
from chatbotctl.core.wiring import Core
from tests.fakes.loopback import Response
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, answer, eventually, running, take_in
from tests.integration.slack_site import customer, make_due, refused, slack_site, states

POST, CREATE, CHANNEL, LANE = "chat.postMessage", "conversations.create", "c-15552220000", "c1"
QUESTION, REPLY = "+15552220000\nHello", "Assistant\nYou said: Hello"
BUSY = Response(429, {"ok": False, "error": "ratelimited"})
BUSY_FOR_A_MOMENT = Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "0"})
DOWN = Response(503, b"<html>upstream</html>", {"Content-Type": "text/html"})
POSTED = ("posted", None)


@dataclass(frozen=True)
class Row:
    """A fault at the first post; how often Slack is called; what then stands in Slack; how the posts end."""

    name: str
    #: What the next requests meet, one after the other: the method, and the fault.
    faults: Sequence[tuple[str, dict[str, Any]]]
    #: Requests to post, and to make a channel.
    asked: tuple[int, int] = (3, 1)
    shown: tuple[str, ...] = (QUESTION, REPLY)
    ends: tuple[tuple[str, str | None], ...] = (POSTED, POSTED)
    #: How often a post was put off.
    put_off: int = 1


def once(name: str, method: str = POST, **fault: Any) -> Row:
    return Row(name, [(method, fault)], asked=(3, 1) if method == POST else (2, 2))


TABLE = [
    Row("nothing", [], asked=(2, 1), put_off=0),
    once("429", response=BUSY),
    once("429 with Retry-After", response=BUSY_FOR_A_MOMENT),
    once("500", response=Response(500, {"ok": False, "error": "internal_error"})),
    once("503 of a proxy", response=DOWN),
    once("connection cut", cut=True),
    once("timeout", delay=600),
    Row("taken, and the connection cut", [(POST, {"cut": True, "accept": True})], shown=(QUESTION, QUESTION, REPLY)),
    once("invalid_auth until the token is mended", response=refused("invalid_auth")),
    once("missing_scope until the app is mended", response=refused("missing_scope")),
    Row("invalid_blocks", [(POST, {"response": refused("invalid_blocks")})], asked=(2, 1), shown=(REPLY,),
        ends=(("dead", "invalid_blocks"), POSTED), put_off=0),
    # the channel
    once("429 while the channel is made", CREATE, response=BUSY),
    once("500 while the channel is made", CREATE, response=DOWN),
    once("invalid_auth while the channel is made", CREATE, response=refused("invalid_auth")),
    Row("name_taken", [(CREATE, {"response": refused("name_taken")})], asked=(2, 2), put_off=0),
    Row("name_taken by all that are tried", [(CREATE, {"times": 5, "response": refused("name_taken")})], asked=(2, 6)),
]  # fmt: skip


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name.replace(" ", "-")) for row in TABLE])
def test_fault_of_slack(
    row: Row, vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, fake_twilio: FakeTwilio
) -> None:
    for method, fault in row.faults:
        fake_slack.plan(method, **fault)
    with slack_site(vendors, tmp_path, {("slack", "timeout_seconds"): 1.0}) as core:
        add_business(core)
        assert answer(core, "Hello").result is Result.REPLIED
        assert fake_twilio.sent() == ["You said: Hello"], "before Slack has seen a thing"
        assert fake_slack.requests == []

        put_off = post_everything(core)

        assert tuple(states(core)) == row.ends
    assert put_off == row.put_off
    assert (len(fake_slack.seen(POST)), len(fake_slack.seen(CREATE))) == row.asked
    (channel,) = fake_slack.channels.values()
    assert channel.name.startswith(CHANNEL)
    assert tuple(fake_slack.texts(channel.id)) == row.shown


@dataclass(frozen=True)
class Closed:
    """A channel that people closed to us between two posts; how often Slack is called; what then stands where."""

    name: str
    close: Callable[[FakeSlack], None]
    asked: tuple[int, int]
    shown: list[list[str]]
    put_off: int


def archive(slack: FakeSlack) -> None:
    slack.archive(CHANNEL)


def archive_for_a_while(slack: FakeSlack) -> None:
    slack.bots_can_unarchive = True
    slack.archive(CHANNEL)


def delete(slack: FakeSlack) -> None:
    slack.delete(CHANNEL)


def throw_out(slack: FakeSlack) -> None:
    slack.remove_bot(CHANNEL)


@pytest.mark.parametrize(
    "row",
    [
        Closed("is_archived", archive, asked=(3, 3), shown=[[QUESTION], [REPLY]], put_off=1),
        Closed("is_archived, and bots may unarchive", archive_for_a_while, (3, 1), [[QUESTION, REPLY]], put_off=0),
        Closed("deleted", delete, asked=(3, 2), shown=[[REPLY]], put_off=1),
        Closed("bot removed", throw_out, asked=(3, 3), shown=[[QUESTION], [REPLY]], put_off=1),
    ],
    ids=lambda row: row.name.replace(" ", "-"),
)
def test_channel_that_is_closed_to_us_between_two_posts(
    row: Closed, vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "Hello")
        assert post_next(core)
        row.close(fake_slack)

        assert post_everything(core) == row.put_off

        assert states(core) == [POSTED, POSTED]
    assert (len(fake_slack.seen(POST)), len(fake_slack.seen(CREATE))) == row.asked
    assert [fake_slack.texts(channel) for channel in fake_slack.channels] == row.shown


# an hour's outage, in seconds: the waits between attempts are a thousandth of the real ones

CUSTOMERS, EACH = 30, 5


def test_outage_of_an_hour_keeps_no_reply_waiting_and_drains_in_order(
    any_site: Core, fake_slack: FakeSlack, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbotctl.core.flow.slack_poster.LATER", PutOff(first=0.02, longest=0.3))
    fake_slack.plan(times=1_000_000, response=DOWN)
    add_business(any_site)
    with running(any_site, slack=True):
        for number in range(EACH):
            for who in range(CUSTOMERS):
                take_in(any_site, f"{number}", sender=customer(who))
        eventually(lambda: len(fake_twilio.sent()) == CUSTOMERS * EACH)
        assert fake_slack.channels == {}
        assert fake_slack.seen(POST) == [], "only the first post of each conversation is tried"
        fake_slack.heal()
        eventually(lambda: set(states(any_site)) == {POSTED}, seconds=60)

    assert len(fake_slack.seen(POST)) == 2 * CUSTOMERS * EACH, "nothing was posted twice"
    assert len(fake_slack.channels) == CUSTOMERS
    for channel in fake_slack.channels:
        lines = [text.partition("\n")[2] for text in fake_slack.texts(channel)]
        # A question may come in before the one before it is answered; each answer stands behind its own.
        assert [line for line in lines if line.isdigit()] == [f"{number}" for number in range(EACH)]
        assert [line for line in lines if not line.isdigit()] == [f"You said: {number}" for number in range(EACH)]
        assert all(lines.index(f"{number}") < lines.index(f"You said: {number}") for number in range(EACH))


def post_next(core: Core) -> bool:
    """Try the conversation's next post once; False when none is due."""
    post = claim_in(core.services, LANE)
    if post is not None:
        deliver_post(core.services, post)
    return post is not None


def post_everything(core: Core) -> int:
    """Try posts until none is left, every wait being over at once; returns how often one was put off."""
    put_off = 0
    for _ in range(20):
        make_due(core)
        if not post_next(core):
            return put_off
        put_off += sum(state == "owed" and code is not None for state, code in states(core))
    raise AssertionError("it never ends")
