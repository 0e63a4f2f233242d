"""When the AI answers into the void: the customer gets that answer, and the provider is not asked the same again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core import failpoints
from chatbotctl.core.config import Key
from chatbotctl.core.flow.worker import work_once
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import now
from chatbotctl.core.wiring import Core
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, answer, install, sqlite_database, take_in

FLAGS: dict[Key, object] = {("openai", "timeout_seconds"): 1.0, ("openai", "attempts"): 2}


@pytest.fixture
def vendors(fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> Vendors:
    return Vendors(openai=fake_openai, twilio=fake_twilio)


@pytest.fixture
def core(vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    with install(vendors, flags=FLAGS, database_url=sqlite_database(tmp_path)) as made:
        add_business(made, backend="openai")
        yield made


def said(fake: FakeOpenAI) -> list[tuple[str, str]]:
    """Everything that stands in the one conversation."""
    (conversation,) = fake.conversations.values()
    return list(conversation.said)


def test_an_answer_after_the_timeout_is_sent_and_not_asked_for_again(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.thinking = 2.5

    assert answer(core, "Hello").result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: Hello"]
    assert said(fake_openai) == [("user", "Hello"), ("assistant", "You said: Hello")]


def test_a_conversation_that_is_busy_for_longer_than_the_attempts_last_is_waited_for(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    assert answer(core, "First").result is Result.REPLIED
    (conversation,) = fake_openai.conversations.values()
    conversation.busy = True
    free = threading.Timer(3.0, lambda: setattr(conversation, "busy", False))
    free.start()

    assert answer(core, "Second").result is Result.REPLIED

    free.join()
    assert fake_twilio.sent() == ["You said: First", "You said: Second"]


def test_a_turn_whose_worker_died_while_it_was_asked_finds_the_answer(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = take_in(core, "Hello")

    class Killed(BaseException):
        """The process ends here."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr("chatbotctl.core.flow.pipeline.translate_answer", die)
        with pytest.raises(Killed):
            work_once(core.services, accepted.conversation_id, owner="dead")
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))

    work_once(core.services, accepted.conversation_id, owner="heir")

    assert fake_twilio.sent() == ["You said: Hello"]
    assert said(fake_openai) == [("user", "Hello"), ("assistant", "You said: Hello")]


def test_a_question_asked_again_is_not_answered_with_what_was_true_before(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    answers = iter(["Not yet.", "It is ready."])
    fake_openai.reply = lambda _: next(answers)
    answer(core, "Is it ready?")
    fake_openai.thinking = 2.5

    assert answer(core, "Is it ready?").result is Result.REPLIED

    assert fake_twilio.sent() == ["Not yet.", "It is ready."]


def test_a_question_asked_again_whose_worker_died_before_asking_is_asked(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    answers = iter(["Not yet.", "It is ready."])
    fake_openai.reply = lambda _: next(answers)
    answer(core, "Is it ready?")
    accepted = take_in(core, "Is it ready?")
    with failpoints.armed("thread_found:raise"), pytest.raises(failpoints.FailPointReached):
        work_once(core.services, accepted.conversation_id, owner="dead")
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))

    work_once(core.services, accepted.conversation_id, owner="heir")

    assert fake_twilio.sent() == ["Not yet.", "It is ready."]
