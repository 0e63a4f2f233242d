"""The port Assistant's look_back: an answer that nobody heard is found where the provider keeps the conversation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from chatbotctl.core.errors import AssistantError, ThreadGone
from chatbotctl.core.records.assistant import Question
from chatbotctl.core.records.business import History
from tests.contract.openai_backends import PRIVATE, SHOP, Backends, open_backends
from tests.specs import needs_specs, violations

ANSWER = f"You said: {PRIVATE}"


@pytest.fixture
def site() -> Iterator[Backends]:
    with open_backends() as backends:
        yield backends


def unheard(site: Backends) -> Question:
    """A question that was answered into a broken connection."""
    question = site.question(site.conversation())
    site.fake.plan("/responses", cut=True, accept=True)
    with pytest.raises(AssistantError) as caught:
        site.responses.ask(question=question)
    assert caught.value.unknown_outcome
    return question


def test_an_answer_that_was_cut_off_is_found(site: Backends) -> None:
    question = unheard(site)

    found = site.responses.look_back(question=question)

    assert found is not None
    assert found.text == ANSWER
    assert len(site.fake.asked) == 1


def test_an_answer_to_another_question_is_none(site: Backends) -> None:
    question = unheard(site)

    assert site.responses.look_back(question=replace(question, text="Something else")) is None


def test_a_question_that_never_arrived_has_no_answer(site: Backends) -> None:
    assert site.responses.look_back(question=site.question(site.conversation())) is None


def test_the_words_of_people_who_answered_before_are_no_answer_to_a_new_question(site: Backends) -> None:
    handle = site.conversation()
    site.responses.ask(question=replace(site.question(handle), text="First"))

    assert site.responses.look_back(question=site.question(handle)) is None


def test_a_conversation_that_is_gone_is_said_to_be_gone(site: Backends) -> None:
    question = unheard(site)
    site.fake.forget()

    with pytest.raises(ThreadGone):
        site.responses.look_back(question=question)


def test_a_thread_is_looked_at_too(site: Backends) -> None:
    question = site.question(site.thread())
    site.threads.ask(question=question)

    found = site.threads.look_back(question=question)

    assert found is not None
    assert found.text == ANSWER
    assert site.threads.look_back(question=replace(question, text="Something else")) is None


def test_where_nothing_is_kept_nobody_is_asked(site: Backends) -> None:
    local = replace(SHOP, history=History.LOCAL)

    assert site.chat.look_back(question=site.question("local_1")) is None
    assert site.responses.look_back(question=site.question("local_1", business=local)) is None
    assert site.fake.requests == []


def test_a_busy_conversation_says_so(site: Backends) -> None:
    handle = site.conversation()
    site.fake.conversations[handle].busy = True

    caught = site.failure(handle)

    assert (caught.retryable, caught.still_busy, caught.unknown_outcome) == (True, True, False)


@needs_specs
def test_looking_is_asked_for_as_the_vendor_describes_it(site: Backends) -> None:
    site.responses.look_back(question=unheard(site))

    (request,) = site.fake.seen("/items", "GET")
    assert violations("openai_responses_conversations", request.method, request.path) == []
