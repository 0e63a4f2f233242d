"""What the tests of the Slack mirror share: how one is made against the loopback Slack, and a post to make."""

from __future__ import annotations

from chatbotctl.core.adapters.slack_channel import SlackChannel
from chatbotctl.core.ports import Mirror
from chatbotctl.core.records.slack import Place, Post
from tests.fakes.slack_server import FakeSlack

TOKEN = "xoxb-test"
HELLO = Post(title="Ana (+15550001)", text="Do you have bread?")


def make_mirror(slack: FakeSlack, *, token: str = TOKEN, private: bool = True, timeout: float = 5.0) -> Mirror:
    """A mirror whose requests go to `slack`; `timeout` in seconds."""
    return SlackChannel(bot_token=token, api_base_url=slack.api_url, private=private, timeout_seconds=timeout)


def opened(mirror: Mirror, name: str = "thread-1") -> Place:
    """A conversation's own channel, just made."""
    return Place(channel=mirror.open_channel(name=name, topic="Bakery: +15550001", invite=["U1"]))
