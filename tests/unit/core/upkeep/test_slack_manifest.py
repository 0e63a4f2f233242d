"""The manifest that operators paste into Slack: it is one that Slack takes, and asks for what we use and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatbotctl.core.adapters.slack_channel import SlackChannel
from chatbotctl.core.errors import MirrorError
from chatbotctl.core.records.slack import Place, Post
from chatbotctl.core.upkeep.slack_manifest import manifest
from tests.fakes.slack_server import FakeSlack

#: Method -> the bot scopes that its calls may need (public, private), from the scopes' pages of docs.slack.dev.
NEEDED = {
    "conversations.create": {"channels:manage", "groups:write"},
    "conversations.unarchive": {"channels:manage", "groups:write"},
    "conversations.setTopic": {"channels:write.topic", "groups:write.topic"},
    "conversations.invite": {"channels:write.invites", "groups:write.invites"},
    "conversations.join": {"channels:join"},
    "chat.postMessage": {"chat:write"},
}


def scopes() -> set[str]:
    document: Any = manifest(public_url=None)
    return set(document["oauth_config"]["scopes"]["bot"])


def use_everything(fake: FakeSlack, *, private: bool) -> None:
    """Every call that the adapter makes."""
    mirror = SlackChannel(bot_token="xoxb-test", api_base_url=fake.api_url, private=private, timeout_seconds=5)
    place = Place(channel=mirror.open_channel(name="t", topic="t", invite=["U1"]))
    post = Post(title="Ana", text="hi")
    mirror.post(place=place, post=post)
    fake.archive(place.channel)
    mirror.post(place=place, post=post)
    if not private:
        fake.remove_bot(place.channel)
        mirror.post(place=place, post=post)


def test_app_with_this_manifest_can_do_all_that_we_do() -> None:
    with FakeSlack() as fake:
        fake.scopes = scopes()
        fake.bots_can_unarchive = True
        use_everything(fake, private=True)
        use_everything(fake, private=False)
        called = {request.path.removeprefix("/api/") for request in fake.requests}

    assert called == set(NEEDED)
    assert scopes() == set().union(*NEEDED.values())


@pytest.mark.parametrize("left_out", sorted(scopes()))
def test_none_of_the_scopes_can_be_left_out(left_out: str) -> None:
    with FakeSlack() as fake:
        fake.scopes = scopes() - {left_out}
        fake.bots_can_unarchive = True
        with pytest.raises(MirrorError) as caught:
            for private in (True, False):
                use_everything(fake, private=private)

    assert caught.value.reason == "missing_scope"
    assert "slack manifest" in (caught.value.hint or "")


@pytest.mark.parametrize("public_url", [None, "https://shop.example/bot/", "https://" + "a" * 200 + ".example"])
def test_shape_that_slack_takes(public_url: str | None) -> None:
    document: Any = json.loads(json.dumps(manifest(public_url=public_url)))

    information = document["display_information"]
    assert 0 < len(information["name"]) <= 35
    assert 0 < len(information["description"]) <= 140
    assert 0 < len(document["features"]["bot_user"]["display_name"]) <= 80
    assert set(document) == {"_metadata", "display_information", "features", "oauth_config", "settings"}


def test_host_of_the_install_is_named_and_nothing_else_of_its_address() -> None:
    text = json.dumps(manifest(public_url="https://user:secret@shop.example:8443/bot"))

    assert "shop.example" in text
    assert "secret" not in text
