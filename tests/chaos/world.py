"""The outside world of a chaos run: the vendors' fakes, with a record of when things happened, and planted canaries.

Every customer's text names its MessageSid, and every part of a reply names the sids that it answers: so whatever is
found anywhere afterwards can be traced. Each business's texts and secrets hold a canary of its own.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.acceptance.install import Vendors
from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.openai_wire import Asked, PlannedAnswer
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, FakeTwilio

SID = re.compile(r"SM[0-9a-f]{32}")
_PARTS = re.compile(r"parts=(\d+)")
_HEAD = re.compile(r"Reply (\d+)/(\d+) to ((?:SM[0-9a-f]{32} ?)+)")
_CANARY = re.compile(r"canary-[a-z]+")
#: Characters of each part of a long reply: two do not fit into one WhatsApp message (1,600).
_LONG = 1_100

#: The install's own secrets. Nothing that anybody reads may hold one.
AUTH_TOKEN = "secretTwilioToken77"
BOT_TOKEN = "xoxb-secretSlackToken77"
OPENAI_KEY = "sk-secretOpenAIKey77"


def question(sid: str, *, parts: int, canary: str) -> str:
    """What a customer writes; the assistant answers it in `parts` messages."""
    return f"{sid} parts={parts} {canary} Do you have bread?"


def sids_of(text: str) -> tuple[str, ...]:
    """The MessageSids that a text names, each once, in order."""
    return tuple(dict.fromkeys(SID.findall(text)))


@dataclass(frozen=True)
class ReplyPart:
    """What one accepted WhatsApp message says it is."""

    number: int
    of: int
    sids: tuple[str, ...]


def part_of(body: str) -> ReplyPart | None:
    """Read the head of a part; None for what is no assistant's reply."""
    head = _HEAD.match(body)
    return None if head is None else ReplyPart(int(head[1]), int(head[2]), sids_of(head[3]))


@dataclass(frozen=True)
class Tenant:
    """A business of the run."""

    name: str
    number: str
    backend: str

    @property
    def canary(self) -> str:
        """Stands in all that is this business's: its customers' words, its instructions, its knowledge."""
        return f"canary-{self.name}"

    @property
    def openai_key(self) -> str:
        return f"{OPENAI_KEY}-{self.name}"


TENANTS = (
    Tenant("alpha", "whatsapp:+15550001111", "openai"),
    Tenant("beta", "whatsapp:+15550002222", "chat"),
)
SECRETS = (AUTH_TOKEN, BOT_TOKEN, OPENAI_KEY)


@dataclass
class Ask:
    """One turn that the model was given; times are time.time(), as the database's clock counts."""

    sids: tuple[str, ...]
    began: float
    ended: float | None = None


class ThinkingOpenAI(FakeOpenAI):
    """An assistant that takes a random time, answers as told by the question, and notes when it was asked what."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(keys={OPENAI_KEY, *(tenant.openai_key for tenant in TENANTS)})
        self._rng = rng
        #: Seconds that an answer takes, at least and at most.
        self.takes = (0.0, 0.3)
        self.asks: list[Ask] = []

    def think(self, asked: Asked) -> tuple[str, PlannedAnswer]:
        ask = Ask(sids_of(asked.text), time.time())
        with self.lock:
            self.asks.append(ask)
            seconds = self._rng.uniform(*self.takes)
        self._closing.wait(seconds)
        _, planned = super().think(asked)
        ask.ended = time.time()
        canaries = dict.fromkeys(_CANARY.findall(f"{asked.text} {asked.instructions}"))
        return _reply(asked.text, " ".join(canaries)), planned


def _reply(text: str, canaries: str) -> str:
    count = max((int(found) for found in _PARTS.findall(text)), default=1)
    sids = " ".join(sids_of(text))
    if count == 1:
        return f"Reply 1/1 to {sids}\nYes, we have. {canaries}"
    heads = (f"Reply {number}/{count} to {sids}\n{canaries} " for number in range(1, count + 1))
    return "\n\n".join(head + "bread, " * ((_LONG - len(head)) // 7) for head in heads)


@dataclass(frozen=True)
class Accepted:
    """One WhatsApp message that Twilio took, and when (time.time())."""

    at: float
    sender: str
    recipient: str
    body: str


class WatchedTwilio(FakeTwilio):
    """Twilio, with the time at which each message was taken."""

    def __init__(self) -> None:
        super().__init__(accounts={ACCOUNT: AUTH_TOKEN})
        self.accepted: list[Accepted] = []

    def handle(self, request: Request) -> Response:
        response = super().handle(request)
        if request.method == "POST" and response.status == 201:
            message: dict[str, Any] = response.body
            with self.lock:
                self.accepted.append(Accepted(time.time(), message["from"], message["to"], message["body"]))
        return response


@dataclass
class World:
    """The vendors of a run."""

    twilio: WatchedTwilio
    openai: ThinkingOpenAI
    slack: FakeSlack
    google: FakeGoogleTranslate

    @property
    def environment(self) -> dict[str, str]:
        """What points an install at them."""
        vendors = Vendors(self.twilio, self.openai, self.slack, self.google)
        return vendors.environment | {
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "SLACK_BOT_TOKEN": BOT_TOKEN,
            "OPENAI_API_KEY": OPENAI_KEY,
        }


@contextlib.contextmanager
def world(rng: random.Random) -> Iterator[World]:
    """The vendors, running."""
    with (
        WatchedTwilio() as twilio,
        ThinkingOpenAI(rng) as openai,
        FakeSlack() as slack,
        FakeGoogleTranslate() as google,
    ):
        slack.tokens = {BOT_TOKEN: "T1"}
        yield World(twilio, openai, slack, google)
