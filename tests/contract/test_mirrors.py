"""What people see in Slack, situation by situation: Slack's own adapter against the loopback Slack."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbotctl.core.adapters.slack_blocks import clean
from chatbotctl.core.adapters.slack_channel import NAME_ATTEMPTS
from chatbotctl.core.errors import MirrorError
from chatbotctl.core.ports import Mirror
from chatbotctl.core.records.slack import Place, Post
from tests.contract.slack_mirror import HELLO, TOKEN, make_mirror, opened
from tests.fakes.loopback import Response
from tests.fakes.slack_server import BOT_USER, FakeSlack


@pytest.fixture
def slack(fake_slack: FakeSlack) -> FakeSlack:
    return fake_slack


@pytest.fixture
def mirror(slack: FakeSlack) -> Mirror:
    return make_mirror(slack)


# a channel is opened


def test_token_read_from_a_file_with_its_line_end_works(slack: FakeSlack) -> None:
    assert opened(make_mirror(slack, token=TOKEN + "\n"))


def test_new_conversation_gets_a_private_channel_with_topic_and_members(slack: FakeSlack, mirror: Mirror) -> None:
    channel = slack.channel(mirror.open_channel(name="thread-conv_1", topic="Bakery: Ana", invite=["U1", "W2"]))

    assert (channel.name, channel.topic, channel.private) == ("thread-conv_1", "Bakery: Ana", True)
    assert channel.members == {BOT_USER, "U1", "W2"}


def test_public_when_the_install_says_so(slack: FakeSlack) -> None:
    mirror = make_mirror(slack, private=False)

    assert not slack.channel(opened(mirror).channel).private


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("thread-WhatsApp:+1 555", "thread-whatsapp-1-555"),
        ("Café & Söhne", "caf-s-hne"),
        ("日本", "conversation"),
        ("", "conversation"),
        ("_-_", "conversation"),
        ("x" * 200, "x" * 80),
        ("\ud800\x00", "conversation"),
    ],
)
def test_any_wanted_name_becomes_one_that_slack_takes(slack: FakeSlack, mirror: Mirror, wanted: str, name: str) -> None:
    assert slack.channel(opened(mirror, wanted).channel).name == name


@pytest.mark.parametrize("wanted", ["thread-1", "x" * 80])
def test_taken_name_gets_a_short_suffix(slack: FakeSlack, mirror: Mirror, wanted: str) -> None:
    slack.archive(opened(mirror, wanted).channel)

    second = slack.channel(opened(mirror, wanted).channel)

    assert second.name.startswith(wanted[:74] + "-")
    assert len(second.name) == min(80, len(wanted) + 6)


def test_slack_that_finds_every_name_taken_is_asked_five_times(slack: FakeSlack, mirror: Mirror) -> None:
    slack.plan("conversations.create", times=99, response=Response(body={"ok": False, "error": "name_taken"}))

    with pytest.raises(MirrorError) as caught:
        opened(mirror)

    assert caught.value.reason == "name_taken"
    assert caught.value.retryable
    assert len(slack.seen("conversations.create")) == NAME_ATTEMPTS == 5


def test_long_hostile_topic_is_one_escaped_line_of_250(slack: FakeSlack, mirror: Mirror) -> None:
    topic = "<!channel>\n" + "&" * 300

    channel = slack.channel(mirror.open_channel(name="t", topic=topic, invite=[]))

    assert channel.topic.startswith("&lt;!channel&gt; &amp;&amp;")
    assert channel.topic.endswith("&amp;…")
    assert 240 < len(channel.topic) <= 250


def test_one_unknown_user_does_not_keep_the_others_out(slack: FakeSlack, mirror: Mirror) -> None:
    slack.unknown_users = {"U2"}

    channel = mirror.open_channel(name="t", topic="t", invite=["U1", "U2", "not an id", BOT_USER, "U3", "U1"])

    assert slack.channel(channel).members == {BOT_USER, "U1", "U3"}


@pytest.mark.parametrize("step", ["conversations.setTopic", "conversations.invite"])
def test_rate_limit_half_way_leaves_no_orphan_channel(slack: FakeSlack, mirror: Mirror, step: str) -> None:
    slack.plan(step, response=Response(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "3"}))
    with pytest.raises(MirrorError) as caught:
        opened(mirror)
    assert caught.value.retry_after == 3

    channel = opened(mirror).channel

    assert list(slack.channels) == [channel]
    assert slack.channel(channel).members == {BOT_USER, "U1"}
    assert slack.channel(channel).topic


def test_topic_that_slack_forbids_does_not_stop_the_mirror(slack: FakeSlack, mirror: Mirror) -> None:
    slack.plan("setTopic", response=Response(body={"ok": False, "error": "user_is_restricted"}))

    assert slack.channel(opened(mirror).channel).members == {BOT_USER, "U1"}


def test_two_workspaces_stay_apart(slack: FakeSlack, mirror: Mirror) -> None:
    slack.tokens["xoxb-other"] = "T2"
    place = opened(mirror)

    with pytest.raises(MirrorError) as caught:
        make_mirror(slack, token="xoxb-other").post(place=place, post=HELLO)

    assert caught.value.reason == "channel_gone"


# posts are read


def test_posts_are_read_in_order_and_unfurl_nothing(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    first = mirror.post(place=place, post=HELLO)
    second = mirror.post(place=place, post=Post(title="Assistant", text="Yes!\nFresh at 7.", translation="Ja!"))

    assert slack.texts(place.channel) == [
        "Ana (+15550001)\nDo you have bread?",
        "Assistant\nYes!\nFresh at 7.\nTranslation\nJa!",
    ]
    assert [message.ts for message in slack.channel(place.channel).messages] == [first, second]
    assert not any(message.unfurls for message in slack.channel(place.channel).messages)


def test_thread_layout_posts_into_the_thread(slack: FakeSlack, mirror: Mirror) -> None:
    channel = opened(mirror).channel
    parent = mirror.post(place=Place(channel=channel), post=HELLO)

    mirror.post(place=Place(channel=channel, thread_ts=parent), post=HELLO)

    assert [message.thread_ts for message in slack.channel(channel).messages] == [None, parent]


def test_vanished_thread_is_said_so(mirror: Mirror) -> None:
    with pytest.raises(MirrorError) as caught:
        mirror.post(place=Place(channel=opened(mirror).channel, thread_ts="1.2"), post=HELLO)

    assert (caught.value.reason, caught.value.retryable) == ("thread_not_found", False)


def test_alert_stands_out_and_mentions_people(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    mention = ("U1", "W2", "U1", "!channel", "U3> <!here", "u4")

    mirror.post(place=place, post=Post(title="A person is needed", text="<@U9>", alert=True, mention=mention))

    (message,) = slack.channel(place.channel).messages
    assert message.reading == ":rotating_light: <@U1> <@W2>\nA person is needed\n<@U9>"
    assert message.text == ":rotating_light: <@U1> <@W2> A person is needed: &lt;@U9&gt;"


def test_post_that_is_no_alert_mentions_nobody(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)

    mirror.post(place=place, post=Post(title="Ana", text="hi", mention=("U1",)))

    assert "U1" not in json.dumps(slack.channel(place.channel).messages[0].blocks)


HOSTILE = [
    "<!channel> <!here> <@U1> <#C1> <!subteam^S1>",
    "@channel @here @everyone",
    "*bold* _it_ ~no~ `code` ```\nblock\n``` > quote",
    "<https://evil.example|https://bank.example> :rotating_light: :tada:",
    "&lt;!channel&gt; &amp;amp;",
    '"}]}, {"type": "section"',
    "\u202eright to left",
    "esc \x1b[2J bell \x07 nul \x00 lone \ud800 \udfff",
    "\u200b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_letter_for_letter_and_does_nothing(slack: FakeSlack, mirror: Mirror, text: str) -> None:
    place = opened(mirror)

    mirror.post(place=place, post=Post(title=text, text=text, translation=text))

    (message,) = slack.channel(place.channel).messages
    line = " ".join(clean(text).split())
    assert message.reading == f"{line}\n{clean(text)}\nTranslation\n{clean(text)}"
    assert does_nothing(message.blocks)
    assert not set(message.text) & set("<>\x00\x1b\u202e")


def test_empty_post_shows_its_title(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)

    mirror.post(place=place, post=Post(title="Ana", text=" \n", translation=""))
    mirror.post(place=place, post=Post(title="\n", text=""))

    assert slack.texts(place.channel) == ["Ana", "Message"]


@pytest.mark.parametrize("letter", ["a", "ä", '"', "\\", "a\n", "😀", "&", "e\u0301", "word "])
def test_very_long_text_is_cut_with_a_line_that_says_so(slack: FakeSlack, mirror: Mirror, letter: str) -> None:
    place = opened(mirror)
    text = letter * 20_000

    mirror.post(place=place, post=Post(title=letter * 500, text=text, translation=text, alert=True, mention=("U1",)))

    (message,) = slack.channel(place.channel).messages
    shown = message.reading
    notes = [line for line in shown.split("\n") if line.startswith("… (")]
    assert len(notes) == 2
    left_off = [int(note.split()[1].strip("(").replace(",", "")) for note in notes]
    kept = shown.count(letter) * len(letter)
    assert all(0 < number < len(text) for number in left_off)
    assert abs(kept + sum(left_off) - 2 * len(text)) < 500


def test_text_within_the_budget_is_not_cut_at_the_expense_of_its_translation(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)

    mirror.post(place=place, post=Post(title="Ana", text="a" * 9_000, translation="b" * 1_000))

    assert slack.texts(place.channel) == [f"Ana\n{'a' * 9_000}\nTranslation\n{'b' * 1_000}"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.text(alphabet=st.characters(), max_size=400),
    text=st.text(alphabet=st.characters(exclude_categories=()), max_size=4_000),
    translation=st.none() | st.text(alphabet=st.characters(exclude_categories=()), max_size=4_000),
    alert=st.booleans(),
)
def test_any_unicode_is_posted_and_read_back(
    slack: FakeSlack, mirror: Mirror, title: str, text: str, translation: str | None, alert: bool
) -> None:
    place = opened(mirror)

    mirror.post(place=place, post=Post(title=title, text=text, translation=translation, alert=alert))

    (message,) = slack.channel(place.channel).messages
    assert does_nothing(message.blocks[1:] if alert else message.blocks)
    assert "<" not in message.text
    if text.strip():
        assert clean(text) in message.reading
    if translation and translation.strip():
        assert message.reading.endswith(f"Translation\n{clean(translation)}")


def does_nothing(blocks: list[dict[str, object]]) -> bool:
    """Whether blocks hold nothing but literal text: no mention, link, emoji or markup could come of them."""
    found = {element["type"] for block in blocks for part in block["elements"] for element in part["elements"]}  # type: ignore[attr-defined, index]
    return all(block["type"] == "rich_text" for block in blocks) and found <= {"text"}
