"""The fake Slack refuses what Slack refuses: else what the mirror's tests show proves nothing."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from tests.contract.slack_mirror import TOKEN
from tests.fakes.slack_server import BOT_USER, FakeSlack


@pytest.fixture
def client(fake_slack: FakeSlack) -> WebClient:
    return WebClient(token=TOKEN, base_url=fake_slack.api_url, retry_handlers=[])


@pytest.fixture
def channel(client: WebClient) -> str:
    made: dict[str, Any] = client.conversations_create(name="shop", is_private=True)["channel"]
    return str(made["id"])


def refusal(client: WebClient, method: str, **arguments: Any) -> str:
    """Slack's error for a call that must fail."""
    with pytest.raises(SlackApiError) as caught:
        client.api_call(method, json=arguments)
    return str(caught.value.response["error"])


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", "invalid_name_required"),
        ("x" * 81, "invalid_name_maxlength"),
        ("Shop", "invalid_name_specials"),
        ("a b", "invalid_name_specials"),
        ("_-_", "invalid_name_punctuation"),
    ],
)
def test_a_name_that_is_none(client: WebClient, name: str, error: str) -> None:
    assert refusal(client, "conversations.create", name=name) == error


def test_a_name_that_an_archived_channel_has(fake_slack: FakeSlack, client: WebClient, channel: str) -> None:
    fake_slack.archive(channel)
    assert refusal(client, "conversations.create", name="shop") == "name_taken"


def test_a_token_that_is_none_or_wrong(fake_slack: FakeSlack) -> None:
    for token, error in (("", "not_authed"), ("xoxb-wrong", "invalid_auth")):
        client = WebClient(token=token, base_url=fake_slack.api_url, retry_handlers=[])
        assert refusal(client, "auth.test") == error


def test_what_the_app_was_not_granted(fake_slack: FakeSlack, client: WebClient) -> None:
    fake_slack.scopes = {"channels:manage"}
    client.conversations_create(name="open")
    assert refusal(client, "conversations.create", name="closed", is_private=True) == "missing_scope"


def test_a_body_that_is_no_json_and_a_method_that_is_none(fake_slack: FakeSlack, client: WebClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for body, error in ((b"{", "invalid_json"), (b"\xff", "invalid_json"), (b"[]", "json_not_object")):
        answer = requests.post(fake_slack.api_url + "chat.postMessage", data=body, headers=headers, timeout=5)
        assert answer.json() == {"ok": False, "error": error}
    assert refusal(client, "chat.sing") == "unknown_method"


def test_a_topic_that_is_too_long(client: WebClient, channel: str) -> None:
    assert refusal(client, "conversations.setTopic", channel=channel, topic="x" * 251) == "too_long"


@pytest.mark.parametrize(
    ("users", "error"),
    [
        ("", "no_user"),
        (BOT_USER, "cant_invite_self"),
        ("U1", "already_in_channel"),
        ("ana@example.com", "user_not_found"),
        (",".join(f"U{number}" for number in range(101)), "too_many_users"),
    ],
)
def test_an_invite_that_brings_nobody_in(client: WebClient, channel: str, users: str, error: str) -> None:
    client.conversations_invite(channel=channel, users="U1")
    assert refusal(client, "conversations.invite", channel=channel, users=users) == error


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def button(*, label: str = "Undo", value: str = "1") -> dict[str, Any]:
    return {"type": "button", "action_id": "a", "value": value, "text": {"type": "plain_text", "text": label}}


def actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": [*elements]}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"text": " "}, "no_text"),
        ({"text": "x" * 4_001}, "msg_too_long"),
        ({"text": "x", "thread_ts": "1.2"}, "thread_not_found"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": [{"type": "poem"}]}, "invalid_blocks"),
        ({"blocks": [section("")]}, "invalid_blocks"),
        ({"blocks": [section("x" * 3_001)]}, "invalid_blocks"),
        ({"blocks": [section("x" * 2_800)] * 5}, "msg_blocks_too_long"),
        ({"blocks": [actions()]}, "invalid_blocks"),
        ({"blocks": [actions({"type": "button"})]}, "invalid_blocks"),
        ({"blocks": [actions(button(label="x" * 76))]}, "invalid_blocks"),
        ({"blocks": [actions(button(value="x" * 2_001))]}, "invalid_blocks"),
        ({"blocks": [actions(*[button()] * 26)]}, "invalid_blocks"),
        ({"blocks": "[{"}, "invalid_blocks_format"),
    ],
)
def test_a_post_that_nobody_could_read(client: WebClient, channel: str, content: dict[str, Any], error: str) -> None:
    assert refusal(client, "chat.postMessage", channel=channel, **content) == error


def test_what_just_fits_is_posted(fake_slack: FakeSlack, client: WebClient, channel: str) -> None:
    blocks = [actions(button(label="x" * 75, value="v" * 2_000)), section("x" * 3_000)]
    client.chat_postMessage(channel=channel, text="x" * 4_000, blocks=blocks)
    assert len(fake_slack.texts(channel)) == 1


def test_a_private_channel_does_not_show_itself_to_those_outside(
    fake_slack: FakeSlack, client: WebClient, channel: str
) -> None:
    assert client.conversations_info(channel=channel)["channel"]["name"] == "shop"
    fake_slack.remove_bot(channel)
    for method in ("conversations.info", "chat.postMessage"):
        assert refusal(client, method, channel=channel, text="x") == "channel_not_found"


def test_an_archived_channel_takes_nothing_and_lets_no_bot_back(
    fake_slack: FakeSlack, client: WebClient, channel: str
) -> None:
    fake_slack.archive(channel)
    assert refusal(client, "chat.postMessage", channel=channel, text="x") == "is_archived"
    assert refusal(client, "conversations.unarchive", channel=channel) == "not_in_channel"


def test_more_posts_than_the_limit(fake_slack: FakeSlack, client: WebClient, channel: str) -> None:
    fake_slack.limit_per_channel = 1
    client.chat_postMessage(channel=channel, text="x")
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel=channel, text="x")
    assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
    assert caught.value.response.headers["Retry-After"] == "1"
