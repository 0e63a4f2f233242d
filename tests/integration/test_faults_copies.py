"""Copies of one webhook, and messages in quick succession: each is answered once, in order, whoever takes it in."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest
import requests

from chatbotctl.core.config import Key
from chatbotctl.core.storage import schema as tables
from tests import long_runs
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.openai_wire import refusal
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import BUSINESS, Vendors, add_business, eventually
from tests.integration.fault_tables import rows
from tests.integration.sites_together import Site, Together, together
from tests.integration.webhook_site import Pairs, pairs, post_to

__all__ = ["together"]

COPIES = (2, 10, 50, 200)
SUCCESS = (200, b'{"success": true}')
QUEUED = (200, b'{"success": true, "queued": true}')
#: Whoever has a thread may wait for the answer, for as long as it takes.
ROOM: dict[Key, object] = {
    ("server", "threads"): 20,
    ("server", "max_waiting"): 20,
    ("server", "reply_wait_seconds"): 14,
}


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    return Vendors(openai=fake_openai, twilio=fake_twilio)


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04}"


def said(response: requests.Response) -> tuple[int, bytes]:
    return response.status_code, response.content


def post_at_once(sites: Sequence[Site], fields: Pairs, copies: int) -> list[tuple[int, bytes]]:
    """The same webhook `copies` times at the same moment, to each site in turn; what each caller is told."""
    at_once = threading.Barrier(copies)

    def call(site: Site) -> tuple[int, bytes]:
        at_once.wait(60)
        return said(post_to(site.url, fields))

    with ThreadPoolExecutor(copies) as pool:
        return list(pool.map(call, islice(cycle(sites), copies)))


# copies


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("servers", [1, 3])
def test_copies_at_once_are_one_turn_one_reply_and_one_answer_to_every_caller(
    together: Together, servers: int, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    rounds = list(islice(cycle(COPIES), long_runs.times("rounds", quick=len(COPIES), long=100)))
    with together(servers, ROOM) as sites:
        core = sites[0].core
        add_business(core, backend="chat")
        for number, copies in enumerate(rounds):
            fields = pairs(f"round {number}", From=customer(number))

            answers = post_at_once(sites, fields, copies)

            assert Counter(answers) == {SUCCESS: copies}
            assert {said(post_to(site.url, fields)) for site in sites} == {SUCCESS}, "nor is it another one later"
        stored = Counter(row.sid for row in rows(core, tables.inbound_messages))
        turns = Counter(row.conversation_id for row in rows(core, tables.turns))

    assert set(stored.values()) == set(turns.values()) == {1}
    assert len(stored) == len(turns) == len(rounds)
    assert [asked.text for asked in fake_openai.asked] == [f"round {number}" for number in range(len(rounds))]
    assert fake_twilio.sent() == [f"You said: round {number}" for number in range(len(rounds))]


@pytest.mark.parametrize("servers", [1, 3])
def test_copies_of_a_message_that_cannot_be_answered_are_all_told_so_in_the_same_words(
    together: Together, servers: int, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.plan("/v1/chat/completions", times=9, response=refusal(500, "no"))
    with together(servers, ROOM) as sites:
        add_business(sites[0].core, backend="chat", apology="Sorry.")

        ((answer, copies),) = Counter(post_at_once(sites, pairs(), 20)).items()

    assert (answer[0], copies) == (500, 20)
    assert b"assistant_failed" in answer[1]
    assert len(fake_openai.seen("/v1/chat/completions")) == 1
    assert fake_twilio.sent() == ["Sorry."]


@pytest.mark.parametrize("servers", [1, 3])
def test_copies_without_room_to_wait_are_told_what_is_so_at_that_moment(
    together: Together, servers: int, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    """The requests that wait are bounded: beyond them a copy is told that the message is stored."""
    fake_openai.thinking = 1.0
    with together(servers, {("server", "max_waiting"): 1, ("server", "reply_wait_seconds"): 14}) as sites:
        add_business(sites[0].core, backend="chat")
        fields = pairs("Hello")

        answers = Counter(post_at_once(sites, fields, 50))

        assert set(answers) == {SUCCESS, QUEUED}
        assert {said(post_to(site.url, fields)) for site in sites} == {SUCCESS}

    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


# bursts

BURST = 5
#: Seconds between the messages of a burst: five come within 200 ms.
PAUSE = 0.04


def write_burst(sites: Sequence[Site], who: int) -> None:
    """A customer writes five messages, each taken in by another server than the one before."""
    for number, site in enumerate(islice(cycle(sites), BURST)):
        taken = post_to(site.url, pairs(f"{who}:{number}", From=customer(who)))
        assert taken.status_code == 200
        time.sleep(PAUSE)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("quiet", [0.0, 1.0], ids=["no-window", "default-window"])
def test_bursts_of_five_are_answered_in_order_and_each_message_once(
    together: Together, quiet: float, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    bursts = long_runs.times("bursts", quick=20, long=200)
    fake_openai.reply = lambda text: text
    flags: dict[Key, object] = {("worker", "quiet_seconds"): quiet, ("server", "reply_wait_seconds"): 0}
    with together(2, flags) as sites:
        core = sites[0].core
        add_business(core, backend="chat")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda who: write_burst(sites, who), range(bursts)))
        eventually(lambda: all(row.last_seq == row.done_seq for row in rows(core, tables.business_clients)))
        turns = Counter(row.conversation_id for row in rows(core, tables.turns))

    for who in range(bursts):
        replies = fake_twilio.sent(to=customer(who), sender=BUSINESS)
        assert " ".join(replies).split() == [f"{who}:{number}" for number in range(BURST)]
    if quiet == 0:
        assert set(turns.values()) == {BURST}
    else:
        assert sum(turns.values()) < bursts * 2, "a burst is one turn, unless the machine paused in the middle of it"
