"""A question to the database: put once, waited for a bounded time, and its answer told again for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbotctl.core.errors import ChatbotError, SchemaMismatch, StorageUnavailable
from chatbotctl.core.upkeep.lookout import Lookout
from tests.installs import eventually


class Question:
    """One that counts how often it is put, and is answered with what `answers` has next."""

    def __init__(self, *answers: int | ChatbotError) -> None:
        self.put = 0
        self._answers = list(answers)
        self.frozen = threading.Event()
        self.frozen.set()

    def __call__(self) -> int:
        self.put += 1
        assert self.frozen.wait(30)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, ChatbotError):
            raise answer
        return answer


@pytest.fixture
def frozen() -> Iterator[Question]:
    """A question that is not answered until the test ends."""
    question = Question(7)
    question.frozen.clear()
    yield question
    question.frozen.set()


def test_an_answer_is_told_again_while_it_is_young() -> None:
    question = Question(1, 2)
    lookout = Lookout(question, keep_seconds=3600)

    assert [lookout.latest(), lookout.latest()] == [1, 1]
    assert question.put == 1


def test_an_answer_that_is_not_kept_is_asked_for_again() -> None:
    lookout = Lookout(Question(1, 2))

    assert [lookout.latest(), lookout.latest()] == [1, 2]


def test_a_failure_is_raised_and_not_kept() -> None:
    lookout = Lookout(Question(SchemaMismatch(), 2), keep_seconds=3600)

    with pytest.raises(SchemaMismatch):
        lookout.latest()
    assert lookout.latest() == 2


def test_a_database_that_answers_nothing_is_not_waited_for_for_ever(frozen: Question) -> None:
    lookout = Lookout(frozen, patience_seconds=0.05)

    for _ in range(3):
        with pytest.raises(StorageUnavailable, match=r"within 0\.05 seconds"):
            lookout.latest()
    assert frozen.put == 1, "each one that hangs holds a thread"


def test_who_asks_while_the_question_is_under_way_gets_the_same_answer(frozen: Question) -> None:
    lookout = Lookout(frozen, patience_seconds=30)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(lookout.latest) for _ in range(5)]
        eventually(lambda: frozen.put == 1)
        frozen.frozen.set()
        # A thread that was late may have put the question anew; it got an answer all the same.
        assert [answer.result(30) for answer in answers] == [7] * 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_our_own_is_an_error_and_hangs_nobody() -> None:
    def divide() -> int:
        return 1 // 0

    with pytest.raises(ChatbotError):
        Lookout(divide, patience_seconds=30).latest()
    # Reported as its thread's, before that ends: in this test, and not in one that comes later.
    eventually(lambda: "lookout" not in [thread.name for thread in threading.enumerate()])
