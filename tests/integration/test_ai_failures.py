"""When the assistant fails for good the customer reads an apology, the caller is told, and Slack is alerted.

Every way in which a provider can fail stands in the table of test_faults_assistant.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.openai_wire import refusal
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, answer, install, post_to_slack, sqlite_database, take_in, work

RESPONSES = "/v1/responses"


def slack_shows(core: Core, slack: FakeSlack) -> list[str]:
    post_to_slack(core, 1)
    (channel,) = slack.channels
    return slack.texts(channel)


def failed(outcome: Outcome) -> bool:
    return (outcome.result, outcome.code) == (Result.FAILED, "assistant_failed")


# what the customer and the people read


def test_customer_reads_the_installs_apology_and_slack_is_alerted(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site, slack_users=["U1", "U2"])
    fake_openai.plan(RESPONSES, times=9, response=refusal(500, "no"))

    assert failed(answer(any_site, "Do you have bread?"))

    assert fake_twilio.sent() == [any_site.settings.replies.apology]
    question, apology, alert = slack_shows(any_site, fake_slack)
    assert "Do you have bread?" in question
    assert apology == f"Automatic line\n{any_site.settings.replies.apology}"
    assert "<@U1> <@U2>" in alert
    assert "The assistant could not answer" in alert


def test_business_may_word_its_own_apology(site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> None:
    add_business(site, apology="Desculpe! Volte mais tarde.")
    fake_openai.plan(RESPONSES, response=refusal(500, "no"))

    assert failed(answer(site))
    assert fake_twilio.sent() == ["Desculpe! Volte mais tarde."]


def test_business_may_send_none(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(site, apology="")
    fake_openai.plan(RESPONSES, response=refusal(500, "no"))

    assert failed(answer(site))

    assert fake_twilio.sent() == []
    assert len(slack_shows(site, fake_slack)) == 2, "the question and the alert"


def test_next_message_is_answered_as_if_nothing_had_been(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site, backend="chat")
    fake_openai.plan("/v1/chat/completions", response=refusal(500, "no"))
    answer(site, "one")

    assert answer(site, "two").result is Result.REPLIED

    assert fake_twilio.sent()[-1] == "You said: two"
    assert fake_openai.asked[-1].history == (("user", "one"),), "the apology is not the assistant's word"


# what is tried again and what is not


def test_attempts_are_as_many_as_the_setting_says(vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    fake_openai.plan(RESPONSES, times=99, response=refusal(500, "no"))
    with install(vendors, flags={("openai", "attempts"): 3}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        assert failed(answer(core))

        with core.database.read() as tx:
            kinds = [row.kind for row in tx.execute(tables.events.select().order_by(tables.events.c.id))]
    assert len(fake_openai.seen(RESPONSES)) == 3
    assert kinds.count("ask_failed") == 3, "the timeline knows each attempt"


def test_deadline_of_the_turn_ends_what_attempts_would_go_on_with(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    """A provider that never answers: without the deadline, ten attempts would take some twenty seconds."""
    fake_openai.plan(RESPONSES, times=999, delay=600)
    flags = {
        ("openai", "attempts"): 10,
        ("openai", "timeout_seconds"): 0.6,
        ("openai", "turn_deadline_seconds"): 1.5,
    }
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)

        assert failed(answer(core))
        assert fake_twilio.sent() == [core.settings.replies.apology]
    assert 1 <= len(fake_openai.seen(RESPONSES)) <= 4


# answers that are none


@pytest.mark.parametrize("said", ["【4:0†faq.md】", "---", "\u200b", " \n\t "])
def test_answer_with_nothing_to_read_in_it_is_a_failure(
    site: Core, said: str, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    fake_openai.reply = lambda _: said

    assert failed(answer(site))
    assert fake_twilio.sent() == [site.settings.replies.apology]


# a fault of our own


class Broken:
    """An assistant with a bug in it."""

    def check(self, **_: object) -> None:
        """Fine."""

    def start_thread(self, **_: object) -> str:
        return "local_1"

    def ask(self, **_: object) -> None:
        raise RuntimeError("canary: what the customer wrote")


def make_due(core: Core) -> None:
    """The wait is over."""
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(ready_at=0.0))


def test_fault_of_our_own_puts_the_turn_off_and_ends_it_when_it_keeps_happening(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack, fake_twilio: FakeTwilio
) -> None:
    with install(vendors, flags={("worker", "attempts"): 3}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core, slack_users=["U1"])
        object.__setattr__(core.services, "assistant_of", lambda _: Broken())
        accepted = take_in(core, "Hello")
        waits = []
        for _ in range(3):
            make_due(core)
            waits.append(work(core, accepted.conversation_id) or 0.0)
        with core.database.read() as tx:
            (turn,) = tx.execute(tables.turns.select()).all()
        alert = slack_shows(core, fake_slack)[-1]

    assert 2.5 <= waits[0] <= 5.0 <= waits[1] <= 10.0
    assert waits[2] == 0.0, "there is nothing to wait for any more"
    assert (turn.state, turn.error_code, turn.attempts) == ("dead", ChatbotError.code, 2)
    assert "<@U1>" in alert
    assert "canary" not in f"{turn.error_message} {alert}"
    assert fake_twilio.sent() == []


def test_fault_that_was_passing_is_made_good_without_the_customer_noticing(site: Core, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    whole = site.services.assistant_of
    object.__setattr__(site.services, "assistant_of", lambda _: Broken())
    accepted = take_in(site, "Hello")
    assert 2.5 <= (work(site, accepted.conversation_id) or 0.0) <= 5.0

    object.__setattr__(site.services, "assistant_of", whole)
    make_due(site)
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == ["You said: Hello"]
