"""The table of what Twilio can do wrong with a reply, and what comes of each.

What it says by status callback later on (63016 mostly) is in test_status_callbacks.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chatbotctl.core.config import Key
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio, refusal
from tests.installs import Vendors, add_business
from tests.integration.fault_tables import (
    HASTY,
    QUEUED,
    SUCCESS,
    TURNS,
    bring_to_its_end,
    fault_site,
    named,
    rows,
)
from tests.integration.fault_tables import tables as schema

#: Attempts in one turn (`twilio.attempts`).
ATTEMPTS = 2
REPLY = "You said: Hello"
LONG = [f"part{number} " + "word " * 280 for number in (1, 2, 3)]

BUSY = refusal(20429, status=429)
BUSY_FOR_A_MOMENT = refusal(20429, status=429, headers={"Retry-After": "0"})
BUSY_FOR_AN_HOUR = refusal(20429, status=429, headers={"Retry-After": "3600"})


@dataclass(frozen=True)
class Row:
    """A fault; how often Twilio is asked to send; what it took; how the turn ends; what the caller is told."""

    name: str
    #: What the next requests to send meet, one after the other.
    faults: Sequence[dict[str, Any]]
    asked: int
    sent: int = 1
    #: How often the message is looked for in Twilio's list.
    looked: int = 0
    turn: tuple[str, str | None] = ("done", None)
    #: What the outbox says of the reply in the end.
    parts: str = "sent"
    #: How often the turn is put off before it ends.
    put_off: int = 0
    #: What the webhook says; a copy, when all is over, is told `then`.
    answered: str = SUCCESS
    then: str = SUCCESS
    flags: dict[Key, object] = field(default_factory=dict)


def never(code: int, status: int = 400) -> Row:
    """Twilio refuses for good: once is enough to know."""
    return Row(
        f"{code}", [{"times": 99, "response": refusal(code, status=status)}], asked=1, sent=0,
        turn=("dead", "send_failed"), parts="failed", answered="send_failed", then="send_failed",
    )  # fmt: skip


def unclear(name: str, **fault: Any) -> list[Row]:
    """No answer, or one that says nothing: Twilio had taken the message, or it had not."""
    return [
        Row(f"accepted, then {name}", [{**fault, "accept": True}], asked=1, looked=1),
        Row(f"{name}, not accepted", [fault], asked=2, looked=1),
    ]


TABLE = [
    Row("nothing", [], asked=1),
    # busy: surely not taken
    Row("429 once", [{"response": BUSY}], asked=2),
    Row("429 once with a short Retry-After", [{"response": BUSY_FOR_A_MOMENT}], asked=2),
    Row("429 once with a Retry-After beyond the turn", [{"response": BUSY_FOR_AN_HOUR}], asked=2, put_off=1,
        answered=QUEUED),
    Row("429 for a whole turn", [{"times": ATTEMPTS, "response": BUSY_FOR_A_MOMENT}], asked=ATTEMPTS + 1, put_off=1,
        answered=QUEUED),
    Row("429 for ever", [{"times": 99, "response": BUSY_FOR_A_MOMENT}], asked=ATTEMPTS * TURNS, sent=0,
        turn=("dead", "send_failed"), parts="failed", put_off=TURNS - 1, answered=QUEUED, then="send_failed"),
    # nobody knows: looked for before it is sent again
    *unclear("500", response=refusal(20500, status=500)),
    *unclear("502 of a proxy", response=Response(502, b"<html>")),
    *unclear("reset", cut=True),
    *unclear("timeout", delay=600),
    *unclear("201 that makes no sense", response=Response(201, b"<html>")),
    Row("500 for a whole turn, the last one taken", [
        {"response": refusal(20500, status=500)}, {"response": refusal(20500, status=500), "accept": True},
    ], asked=2, looked=2, put_off=1, answered=QUEUED),
    Row("500 for ever", [{"times": 99, "response": refusal(20500, status=500)}], asked=ATTEMPTS * TURNS,
        looked=ATTEMPTS * TURNS - 1, sent=0, turn=("dead", "send_failed"), parts="unknown", put_off=TURNS - 1,
        answered=QUEUED, then="send_failed"),
    # refused for good
    never(63016),
    never(21610),
    never(63014),
    never(63024),
    never(21617),
    never(20003, 401),
]  # fmt: skip


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    return Vendors(openai=fake_openai, twilio=fake_twilio)


@pytest.mark.parametrize("row", [pytest.param(row, id=named(row.name)) for row in TABLE])
def test_fault_of_twilio(
    row: Row, vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    for fault in row.faults:
        fake_twilio.plan("Messages", method="POST", **fault)
    with twilio_site(vendors, tmp_path, row) as core:
        add_business(core)

        became = bring_to_its_end(core)

    assert len(fake_twilio.seen("Messages", "POST")) == row.asked
    assert len(fake_twilio.seen("Messages", "GET")) == row.looked
    assert fake_twilio.sent() == [REPLY] * row.sent
    assert (became.turn, became.put_off) == (row.turn, row.put_off)
    assert became.parts == (row.parts,)
    assert became.answered == (row.answered, row.then)
    assert len(fake_openai.asked) == 1, "whatever becomes of the reply, the model is asked once"


@pytest.mark.parametrize(
    ("faulty", "states", "asked"),
    [
        (BUSY_FOR_A_MOMENT, ("sent", "sent", "sent"), ATTEMPTS + 3),
        (refusal(20500, status=500), ("sent", "sent", "sent"), ATTEMPTS + 3),
        (refusal(63016), ("sent", "failed", "failed"), 2),
    ],
    ids=["busy-for-a-turn", "unclear-for-a-turn", "refused"],
)
def test_fault_at_the_second_of_three_parts(
    faulty: Response,
    states: tuple[str, ...],
    asked: int,
    vendors: Vendors,
    tmp_path: Path,
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
) -> None:
    fake_openai.reply = lambda _: "\n\n".join(LONG)
    fake_twilio.plan("Messages", method="POST")
    fake_twilio.plan("Messages", method="POST", times=ATTEMPTS, response=faulty)
    row = Row("", [], asked=asked, answered=QUEUED)
    with twilio_site(vendors, tmp_path, row) as core:
        add_business(core)

        became = bring_to_its_end(core)
        left = [part.body for part in rows(core, schema.outbound_messages) if part.state == "sent"]

    assert became.parts == states
    assert fake_twilio.sent() == left, "in order, and each once"
    assert len(fake_twilio.seen("Messages", "POST")) == asked


def twilio_site(vendors: Vendors, folder: Path, row: Row) -> Any:
    flags: dict[Key, object] = {("twilio", "attempts"): ATTEMPTS, ("twilio", "timeout_seconds"): 1.0}
    if row.answered == QUEUED:
        flags["server", "reply_wait_seconds"] = HASTY
    return fault_site(vendors, folder, {**flags, **row.flags})
