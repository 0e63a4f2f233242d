"""The table of answers, row by row."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from chatbotctl.core import errors
from chatbotctl.core.errors import ChatbotError
from chatbotctl.core.records.message import Outcome, Result
from chatbotctl.server import answers


def outcome(result: Result, code: str | None = None, message: str | None = None) -> Outcome:
    return Outcome(result=result, message_sid="SM1", conversation_id=1, code=code, message=message)


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (Result.REPLIED, {"success": True}),
        (Result.HELD, {"success": True}),
        (Result.WITHDRAWN, {"success": True}),
        (Result.QUEUED, {"success": True, "queued": True}),
    ],
)
def test_a_message_that_is_taken_is_a_success(result: Result, body: dict[str, object]) -> None:
    answer = answers.for_outcome(outcome(result))
    assert (answer.status, json.loads(answer.text), answer.code) == (200, body, None)


def test_a_failed_turn_says_why_in_its_own_words() -> None:
    answer = answers.for_outcome(outcome(Result.FAILED, "assistant_failed", "The assistant took too long."))
    assert answer.status == 500
    assert json.loads(answer.text) == {"error": "The assistant took too long.", "code": "assistant_failed"}


def test_a_failed_turn_without_words_still_has_a_sentence_and_a_code() -> None:
    answer = answers.for_outcome(outcome(Result.FAILED))
    assert answer.status == 500
    assert answer.code == "error"
    assert answer.body["error"]


def test_every_outcome_has_its_answer() -> None:
    assert {result.value: answers.for_outcome(outcome(result)).status for result in Result} == {
        "replied": 200,
        "held": 200,
        "withdrawn": 200,
        "queued": 200,
        "failed": 500,
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.UnreadableMessage, 400),
        (errors.MessageTooLong, 400),
        (errors.SignatureRefused, 403),
        (errors.BusinessDisabled, 403),
        (errors.BusinessNotFound, 500),
        (errors.AssistantNotUsable, 500),
        (errors.StorageUnavailable, 503),
        (errors.SchemaMismatch, 500),
        (errors.AssistantError, 500),
        (errors.SecretKeyError, 500),
        (errors.ChatbotError, 500),
    ],
)
def test_each_error_has_its_status_and_keeps_its_code(error: type[ChatbotError], status: int) -> None:
    answer = answers.for_error(error(hint="chatbotctl something"))
    assert answer.status == status
    assert json.loads(answer.text) == {"error": error().message, "code": error.code}


def test_an_error_of_a_kind_that_comes_later_is_answered_like_its_parent() -> None:
    class MessageFarTooLong(errors.MessageTooLong):
        """Later."""

        code = "message_far_too_long"

    assert answers.for_error(MessageFarTooLong()).status == 400
    failed = answers.for_outcome(outcome(Result.FAILED, MessageFarTooLong.code))
    assert (failed.status, failed.code) == (400, "message_far_too_long")


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 418, 431])
def test_requests_that_http_has_a_status_for_keep_it(status: int) -> None:
    answer = answers.for_request(status)
    assert answer.status == status
    assert set(answer.body) == {"error", "code"}


def test_the_table_can_be_asked_without_loading_a_web_framework() -> None:
    script = (
        "import sys, chatbotctl.server.answers\n"
        "print([name for name in ('flask', 'werkzeug', 'waitress') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
