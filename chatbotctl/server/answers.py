"""THE table: what the webhook answers to each outcome and to each error.

Used by every handler, by the listener for requests that no handler sees, and by `simulate` for the status that Twilio
would have seen. It imports no web framework. `error` is one sentence without customer text, full numbers or secrets;
`code` is stable, and for core's errors it is theirs (core/errors.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from chatbotctl.core.errors import (
    AssistantNotUsable,
    BusinessDisabled,
    BusinessNotFound,
    ChatbotError,
    MessageTooLong,
    SignatureRefused,
    StorageUnavailable,
    UnreadableMessage,
    by_code,
)
from chatbotctl.core.records.message import Outcome, Result

#: The content type of every answer but TwiML.
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and what its JSON body says."""

    status: int
    body: Mapping[str, object]

    @property
    def code(self) -> str | None:
        """The error's code; None for a success."""
        code = self.body.get("code")
        return None if code is None else str(code)

    @property
    def text(self) -> str:
        """The body as it goes over the wire."""
        return json.dumps(dict(self.body))


SUCCESS = Answer(200, {"success": True})
QUEUED = Answer(200, {"success": True, "queued": True})

#: An operator's hold is a success: the message is stored and mirrored, and a person answers. So is an answer that was
#: withdrawn: that is what whoever reset the thread or disabled the business wanted.
_OUTCOMES: Mapping[Result, Answer] = {
    Result.REPLIED: SUCCESS,
    Result.HELD: SUCCESS,
    Result.WITHDRAWN: SUCCESS,
    Result.QUEUED: QUEUED,
}

#: Any other error, and one that is none of ours, is a 500.
_ERRORS: Mapping[type[ChatbotError], int] = {
    UnreadableMessage: 400,
    MessageTooLong: 400,
    SignatureRefused: 403,
    BusinessDisabled: 403,
    BusinessNotFound: 500,
    AssistantNotUsable: 500,
    StorageUnavailable: 503,
}

#: What is wrong with a request that never became a message.
_REQUESTS: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request is not readable as HTTP."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("body_too_large", "The request's body is too large."),
    415: ("wrong_content_type", "The content type must be application/x-www-form-urlencoded or application/json."),
    431: ("headers_too_large", "The request's headers are too large."),
}


def for_outcome(outcome: Outcome) -> Answer:
    """The answer for what became of a message."""
    if outcome.result is Result.FAILED:
        code, sentence = outcome.code or ChatbotError.code, outcome.message or "The message was not answered."
        return _error(_status(by_code(code)), code, sentence)
    return _OUTCOMES[outcome.result]


def for_error(error: ChatbotError, status: int | None = None) -> Answer:
    """The answer for an error, with `status` instead of the table's where one is given."""
    return _error(_status(type(error)) if status is None else status, error.code, error.message)


def for_request(status: int) -> Answer:
    """The answer for a request that HTTP itself has a status for: an unknown path, a body too large."""
    code, sentence = _REQUESTS.get(status, ("bad_request", "The request cannot be served."))
    return _error(status, code, sentence)


def unforeseen() -> Answer:
    """The answer for a fault of our own, which says nothing about it."""
    return _error(500, ChatbotError.code, "Something went wrong.")


def _status(kind: type[ChatbotError]) -> int:
    return next((_ERRORS[each] for each in kind.__mro__ if each in _ERRORS), 500)


def _error(status: int, code: str, sentence: str) -> Answer:
    return Answer(status, {"error": sentence, "code": code})
