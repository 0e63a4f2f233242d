"""What Slack is owed reaches Slack: in order, at its pace, and shown as it is, whatever Slack says in between."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from chatbotctl.core.flow.retry_policy import PutOff
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.slack_place import Standing
from chatbotctl.core.flow.slack_poster import CRASHES, SlackPoster, post_all
from chatbotctl.core.flow.slack_words import post_of
from chatbotctl.core.records.message import Result
from chatbotctl.core.records.slack import OwedPost, Post
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage import slack_posts
from chatbotctl.core.wiring import Core
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.installs import (
    Vendors,
    add_business,
    answer,
    away_for_a_moment,
    eventually,
    install,
    post_to_slack,
    sqlite_database,
    take_in,
)
from tests.integration.slack_site import claim_next, customer, deliver_next, make_due, refused, slack_site, states


def first_row(core: Core) -> Row[Any]:
    """The oldest post as it is stored."""
    with core.database.read() as tx:
        return tx.execute(tables.slack_posts.select().order_by(tables.slack_posts.c.id)).first() or pytest.fail("none")


# trouble in between


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"response": Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "0"})}, "ratelimited"),
        ({"response": Response(503, {})}, "503"),
        ({"response": refused("invalid_auth")}, "invalid_auth"),
        ({"cut": True}, "connection_lost"),
    ],
    ids=["429", "503", "token", "cut"],
)
def test_post_that_slack_cannot_take_now_keeps_its_place(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, trouble: dict[str, object], reason: str
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "one")
        fake_slack.plan("chat.postMessage", times=1, **trouble)  # type: ignore[arg-type]
        deliver_next(core)
        assert states(core) == [("owed", reason), ("owed", None)]

        make_due(core)
        post_to_slack(core, 1)

    assert fake_slack.texts("c-15552220000") == ["+15552220000\none", "Assistant\nYou said: one"]


def test_wait_that_slack_asks_for_is_kept(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    busy = Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "600"})
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)
        fake_slack.plan("chat.postMessage", times=1, response=busy)
        deliver_next(core)

        assert claim_next(core) is None, "what follows waits too"
        with core.database.read() as tx:
            first = tx.execute(tables.slack_posts.select().order_by(tables.slack_posts.c.id)).first()
    assert first is not None
    assert first.next_at > first.created_at + 500


def test_wait_of_days_is_cut_to_an_hour(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    busy = Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "864000"})
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)
        fake_slack.plan("chat.postMessage", times=1, response=busy)
        deliver_next(core)

        assert 3500 < first_row(core).next_at - time.time() <= 3601


def test_waits_that_slack_asks_for_make_no_later_one_longer(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    busy = Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "0"})
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)
        fake_slack.plan("chat.postMessage", times=8, response=busy)
        for _ in range(8):
            deliver_next(core)
        assert first_row(core).attempts == 0

        fake_slack.plan("chat.postMessage", times=1, response=refused("invalid_auth"))
        deliver_next(core)

        row = first_row(core)
        assert row.attempts == 1
        assert row.next_at - time.time() < 2


def test_waiting_for_the_thread_makes_no_later_wait_longer(vendors: Vendors, tmp_path: Path) -> None:
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        take_in(core)
        for _ in range(3):
            make_due(core)
            deliver_next(core)

        assert first_row(core).attempts == 0


def test_post_that_slack_took_while_the_database_was_away_for_a_moment_is_posted_once(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "one")
        away_for_a_moment(monkeypatch, "chatbotctl.core.flow.slack_poster.slack_posts.posted")

        post_to_slack(core, 1)

    assert fake_slack.texts("c-15552220000") == ["+15552220000\none", "Assistant\nYou said: one"]


def test_post_that_slack_refuses_for_good_is_a_dead_letter_and_the_lane_goes_on(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "one")
        fake_slack.plan("chat.postMessage", times=1, response=refused("invalid_blocks"))
        post_to_slack(core, 1)

        assert states(core) == [("dead", "invalid_blocks"), ("posted", None)]
    assert fake_slack.texts("c-15552220000") == ["Assistant\nYou said: one"]


def test_one_conversations_trouble_does_not_hold_up_another(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "one", sender=customer(1))
        fake_slack.plan("conversations.create", times=1, response=refused("invalid_auth"))
        deliver_next(core)
        answer(core, "two", sender=customer(2))

        post_to_slack(core, 2)

    assert [channel.name for channel in fake_slack.channels.values()] == ["c-15552220002"]


def test_posting_one_conversation_leaves_the_others_to_the_server(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "real", sender=customer(1))
        answer(core, "mine", sender=customer(2))

        assert post_all(core.services, conversation_id=2, seconds=20)

        assert [state for state, _ in states(core)] == ["owed", "owed", "posted", "posted"]


def test_posting_gives_up_when_its_time_is_over(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    fake_slack.plan(times=99, response=refused("invalid_auth"))
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)

        assert not post_all(core.services, conversation_id=1, seconds=0.2)


# the poster at work


def test_posters_keep_slacks_pace_and_order_in_every_channel(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    """The fake refuses more than one post a second and channel, as Slack does."""
    fake_slack.limit_per_channel = 1
    with slack_site(vendors, tmp_path, {("slack", "posts_per_second"): 1}) as core:
        add_business(core)
        for number in (1, 2, 3):
            answer(core, "Hello", sender=customer(number))
        poster = SlackPoster(core.services)
        poster.start()
        eventually(lambda: {state for state, _ in states(core)} == {"posted"})
        poster.drain(20)

    assert len(fake_slack.seen("chat.postMessage")) == 6, "none had to be posted a second time"
    for channel in fake_slack.channels.values():
        assert [text.partition("\n")[2] for text in fake_slack.texts(channel.id)] == ["Hello", "You said: Hello"]


def test_drained_poster_leaves_what_is_owed(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        poster = SlackPoster(core.services)
        poster.start()
        poster.drain(20)

        answer(core)

        assert [state for state, _ in states(core)] == ["owed", "owed"]


def test_fault_that_nobody_foresaw_holds_its_lane_up_for_a_while_only(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for ever, nor again and again at the end of each lease."""
    monkeypatch.setattr("chatbotctl.core.flow.slack_poster.LATER", PutOff(first=0.01, longest=300.0))
    met: list[int] = []

    def faulty(services: Services, owed: OwedPost, standing: Standing) -> Post:
        if owed.text == "Hello":
            met.append(owed.id)
            raise ValueError(owed.text)
        return post_of(services, owed, standing)

    monkeypatch.setattr("chatbotctl.core.flow.slack_poster.post_of", faulty)
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "Hello")
        poster = SlackPoster(core.services)
        poster.start()
        eventually(lambda: states(core) == [("dead", "crashed"), ("posted", None)])
        assert poster.drain(20)

    assert len(met) == CRASHES
    assert fake_slack.texts("c-15552220000") == ["Assistant\nYou said: Hello"]


def test_poster_looks_once_for_many_posts(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def counted(*args: Any, **options: Any) -> list[int]:
        found = due(*args, **options)
        looks.append(len(found))
        return found

    due = slack_posts.due
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        for number in range(12):
            take_in(core, "Hello", sender=customer(number))
        monkeypatch.setattr("chatbotctl.core.flow.slack_poster.slack_posts.due", counted)
        poster = SlackPoster(core.services)
        poster.start()
        eventually(lambda: {state for state, _ in states(core)} == {"posted"})
        assert poster.drain(20)

    assert [found for found in looks if found] == [12]


def test_drain_says_whether_a_post_is_still_under_way(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    handle = fake_slack.handle

    def hangs(request: Request) -> Response:
        let_go.wait(20)
        return handle(request)

    monkeypatch.setattr(fake_slack, "handle", hangs)
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)
        poster = SlackPoster(core.services)
        poster.start()
        eventually(lambda: fake_slack.requests)

        assert not poster.drain(0.1)

        let_go.set()
        eventually(lambda: [state for state, _ in states(core)] == ["posted", "owed"])


# what goes there


def test_hostile_text_pings_nobody_and_is_shown(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    hostile = ["<!channel> <@U1> *x* :tada:", "\u202egpj.exe", "a" + "\u0301" * 1599, "&lt;!here&gt;"]
    with slack_site(vendors, tmp_path) as core:
        add_business(core, slack_users=["U1"])
        for text in hostile:
            answer(core, text, profile_name="<!everyone>")
        post_to_slack(core, 1)
        assert {state for state, _ in states(core)} == {"posted"}

    channel = fake_slack.channel("c-15552220000")
    for message in channel.messages:
        assert not any(mark in message.text for mark in ("<!", "<@"))
        assert not message.unfurls
    shown = fake_slack.texts(channel.id)
    assert "<!channel> <@U1> *x* :tada:" in shown[0]
    assert "\u202e" not in "".join(shown)


def test_ten_thousand_marks_in_an_answer_are_posted_all_the_same(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply = lambda _: "a" + "\u0301" * 10_000
    with slack_site(vendors, tmp_path) as core:
        add_business(core)

        assert answer(core).result is Result.REPLIED
        post_to_slack(core, 1)

        assert {state for state, _ in states(core)} == {"posted"}


def test_message_that_is_not_mirrored_never_goes_to_slack(vendors: Vendors, tmp_path: Path) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, simulated=True, mirrored=False)

        assert states(core) == []


def test_simulated_message_says_so(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "Hello", simulated=True, profile_name="Ana")
        post_to_slack(core, 1)

    assert fake_slack.texts("c-15552220000")[0] == "Ana (+15552220000) · simulated\nHello"


def test_install_without_slack_owes_nothing(vendors: Vendors, tmp_path: Path) -> None:
    with install(Vendors(openai=vendors.openai, twilio=vendors.twilio), database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        answer(core)

        assert states(core) == []
