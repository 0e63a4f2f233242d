"""Where in Slack a conversation stands, whose workspace that is, and what becomes of it when a channel goes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chatbotctl.core import secret_key
from chatbotctl.core.config import Key
from chatbotctl.core.flow.slack_place import NAME_SECONDS
from chatbotctl.core.flow.slack_poster import deliver_post
from chatbotctl.core.records.business import Business
from chatbotctl.core.storage import businesses
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import BOT_USER, FakeSlack
from tests.installs import (
    Vendors,
    add_business,
    answer,
    away_for_a_moment,
    install,
    post_to_slack,
    sqlite_database,
    take_in,
)
from tests.integration.slack_site import GARAGE, claim_next, customer, deliver_next, make_due, slack_site, states


@pytest.fixture
def threaded(vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    """An install with one channel per business."""
    with slack_site(vendors, tmp_path, {("slack", "layout"): "thread"}) as core:
        yield core


# the place


def test_new_conversation_gets_its_own_private_channel(any_site: Core, fake_slack: FakeSlack) -> None:
    add_business(any_site, slack_users=["U1", "U2"])
    for number in (1, 2):
        became = answer(any_site, f"from {number}", sender=customer(number), profile_name="Ana & Zé")
        post_to_slack(any_site, became.conversation_id)

    first, second = fake_slack.channels.values()
    assert (first.name, second.name) == ("customer-15552220001", "customer-15552220002")
    assert first.private
    assert first.members == {BOT_USER, "U1", "U2"}
    assert first.topic == "bakery: Ana &amp; Zé (+15552220001)"
    assert ["from 1" in text for text in fake_slack.texts(first.id)] == [True, True]


def test_channel_is_named_after_the_ai_thread_that_is_made_a_moment_later(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, fake_openai: FakeOpenAI
) -> None:
    """By default. The customer's line is owed before the assistant was asked."""
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")
        with capture_logs() as logs:
            deliver_next(core)
        assert fake_slack.channels == {}
        assert states(core) == [("owed", "no_thread_yet")]
        assert [log["log_level"] for log in logs] == ["debug"], "every new customer begins so: nothing to warn of"

        answer(core, "again")
        post_to_slack(core, accepted.conversation_id)

    (channel,) = fake_slack.channels.values()
    (handle,) = fake_openai.conversations
    assert channel.name == f"thread-{handle}".lower()


def test_conversation_that_never_has_a_thread_is_named_by_its_number_in_the_end(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "", kind="image")
        deliver_next(core)
        assert fake_slack.channels == {}

        make_due(core, older=NAME_SECONDS)
        deliver_next(core)

    assert [channel.name for channel in fake_slack.channels.values()] == [f"thread-{accepted.conversation_id}"]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{business}-{customer}", "bakery-15552220000"),
        ("wa {number}", "wa-15550001111"),
        ("{thread_id:s}", "1"),
        ("all", "all"),
    ],
)
def test_channel_names_follow_the_template(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, template: str, name: str
) -> None:
    flags: dict[Key, object] = {("slack", "channel_name_template"): template}
    with slack_site(vendors, tmp_path, flags) as core:
        add_business(core)
        take_in(core, "", kind="image")
        make_due(core, older=NAME_SECONDS)
        deliver_next(core)

    assert [channel.name for channel in fake_slack.channels.values()] == [name]


@pytest.mark.parametrize(
    ("layout", "writer"),
    [
        ("channel", "conversations.set_place"),
        ("thread", "businesses.set_slack_channel"),
        ("thread", "conversations.set_place"),
    ],
)
def test_place_made_while_the_database_is_away_for_a_moment_is_made_once(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch, layout: str, writer: str
) -> None:
    with slack_site(vendors, tmp_path, {("slack", "layout"): layout}) as core:
        add_business(core)
        answer(core)
        away_for_a_moment(monkeypatch, f"chatbotctl.core.flow.slack_place.{writer}")

        post_to_slack(core, 1)

    (channel,) = fake_slack.channels.values()
    assert len(channel.messages) == (2 if layout == "channel" else 3)


def test_layout_thread_has_one_channel_per_business_and_a_slack_thread_per_conversation(
    threaded: Core, fake_slack: FakeSlack
) -> None:
    add_business(threaded, slack_users=["U1"])
    add_business(threaded, "garage", GARAGE)
    for number in (1, 2):
        answer(threaded, f"from {number}", sender=customer(number))
    answer(threaded, "Oil?", receiver=GARAGE)
    for conversation_id in (1, 2, 3):
        post_to_slack(threaded, conversation_id)

    bakery, garage = fake_slack.channel("bakery"), fake_slack.channel("garage")
    assert bakery.members == {BOT_USER, "U1"}
    heads = [message for message in bakery.messages if message.thread_ts is None]
    assert [head.reading for head in heads] == [
        "Conversation\nbakery: +15552220001",
        "Conversation\nbakery: +15552220002",
    ]
    for number, head in enumerate(heads, start=1):
        posts = [message.reading for message in bakery.messages if message.thread_ts == head.ts]
        assert posts == [f"+1555222{number:04}\nfrom {number}", f"Assistant\nYou said: from {number}"]
    assert len(garage.messages) == 3
    assert not any("Oil" in text for text in fake_slack.texts("bakery"))


def test_business_may_have_another_layout_than_the_install(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core, slack_layout="thread")
        add_business(core, "garage", GARAGE)
        answer(core)
        answer(core, receiver=GARAGE)
        for conversation_id in (1, 2):
            post_to_slack(core, conversation_id)

    assert sorted(channel.name for channel in fake_slack.channels.values()) == ["bakery", "c-15552220000"]


# channels that go away


def test_deleted_channel_is_made_anew_and_nothing_is_lost(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core, "one")
        post_to_slack(core, 1)
        fake_slack.delete("c-15552220000")

        answer(core, "two")
        post_to_slack(core, 1)

    assert fake_slack.texts("c-15552220000") == ["+15552220000\ntwo", "Assistant\nYou said: two"]


@pytest.mark.parametrize("sender", [customer(1), customer(2)], ids=["same customer", "new customer"])
def test_deleted_channel_of_a_business_is_made_anew_and_nothing_is_lost(
    threaded: Core, fake_slack: FakeSlack, sender: str
) -> None:
    add_business(threaded)
    answer(threaded, "one", sender=customer(1))
    post_to_slack(threaded, 1)
    fake_slack.delete("bakery")

    became = answer(threaded, "two", sender=sender)
    post_to_slack(threaded, became.conversation_id)

    assert [state for state, _ in states(threaded)] == ["posted"] * 4
    assert fake_slack.texts("bakery")[-2:] == [f"{sender.removeprefix('whatsapp:')}\ntwo", "Assistant\nYou said: two"]


# whose Slack it is


def own_slack(core: Core, business: Business, token: str) -> None:
    secret_key.make(core.loaded.home)
    with core.database.write() as tx:
        core.vault.store(tx, business, "slack", token)


def test_business_with_its_own_workspace_is_seen_in_no_other(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    fake_slack.tokens["xoxb-garage"] = "T2"
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        own_slack(core, add_business(core, "garage", GARAGE), "xoxb-garage")
        answer(core, "bread")
        answer(core, "oil", receiver=GARAGE)
        for conversation_id in (1, 2):
            post_to_slack(core, conversation_id)

    seen: dict[str, list[str]] = {"T1": [], "T2": []}
    for channel in fake_slack.channels.values():
        seen[channel.team] += fake_slack.texts(channel.id)
    assert "bread" in "".join(seen["T1"]) and "oil" not in "".join(seen["T1"])
    assert "oil" in "".join(seen["T2"]) and "bread" not in "".join(seen["T2"])


def test_removed_token_keeps_what_is_owed_until_there_is_one_again(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        answer(core)
    database = core.loaded.database_url
    alone = Vendors(openai=vendors.openai, twilio=vendors.twilio)
    with install(alone, database_url=database) as core:
        deliver_next(core)
        assert states(core)[0] == ("owed", "not_configured")

    with install(vendors, flags={("slack", "channel_name_template"): "c"}, database_url=database) as core:
        make_due(core)
        post_to_slack(core, 1)
    assert len(fake_slack.texts("c")) == 2


def test_conversation_removed_with_its_business_is_owed_nothing_more(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        bakery = add_business(core)
        answer(core)
        post = claim_next(core)
        assert post is not None
        with core.database.write() as tx:
            businesses.remove(tx, bakery)

        deliver_post(core.services, post)

        assert states(core) == []
    assert fake_slack.channels == {}
