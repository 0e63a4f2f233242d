"""What the parts of the fake OpenAI share: ids, error bodies, lists, messages, and the record of what was asked.

Used by openai_server, openai_threads_server and openai_vector_stores_server; knows none of them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes.loopback import Request, Response

#: Method, pattern of the whole path, and what answers: called with the request and the pattern's groups.
Route = tuple[str, str, Callable[..., Response]]


@dataclass(frozen=True)
class Asked:
    """One turn that the model was given, whichever API it came by."""

    api: str  # responses, chat or runs
    text: str
    instructions: str | None
    model: str | None
    handle: str | None  # the conversation or thread
    history: tuple[tuple[str, str], ...]  # (role, text) of everything before, as the model sees it


@dataclass(frozen=True)
class PlannedAnswer:
    """How an answer is spoilt: see FakeOpenAI.plan_answer. The kind "" is a good answer."""

    kind: str = ""
    code: str = ""


#: What a planned `junk` answers: JSON, but no answer.
JUNK: dict[str, Any] = {"nothing": "that anybody knows"}
#: What a planned `refusal` says.
DECLINED = "I can't help with that."


def new_id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex


def refusal(
    status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> Response:
    """An error as OpenAI words it."""
    return Response(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def missing(parameter: str) -> Response:
    message = f"Missing required parameter: '{parameter}'."
    return refusal(400, message, param=parameter, code="missing_required_parameter")


def refuse_unreadable(request: Request) -> Response | None:
    """The refusal of what no endpoint takes: a body that is no JSON object, too much metadata, too long a page."""
    try:
        limit = int(request.query.get("limit", ["20"])[0])
        body = json.loads(request.body or b"{}") if "json" in request.headers.get("content-type", "") else {}
    except ValueError:
        return refusal(400, "We could not parse the JSON body of your request.")
    if not isinstance(body, dict):
        return refusal(400, "Invalid type for the body: expected an object.", code="invalid_type")
    if not 1 <= limit <= 100:
        message = f"Invalid 'limit': expected a value from 1 to 100, but got {limit} instead."
        return refusal(400, message, param="limit", code="integer_above_max_value")
    return _refuse_metadata(body.get("metadata") or {})


def _refuse_metadata(metadata: dict[str, Any]) -> Response | None:
    """Up to 16 pairs of texts: names of up to 64 characters, values of up to 512."""
    if len(metadata) > 16:
        message = f"Invalid 'metadata': too many properties. Expected at most 16 properties, but got {len(metadata)}."
        return refusal(400, message, param="metadata", code="object_above_max_properties")
    for name, value in metadata.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'metadata.{name}': expected a string."
            return refusal(400, message, param=f"metadata.{name}", code="invalid_type")
        if len(name) > 64 or len(value) > 512:
            message = f"Invalid 'metadata.{name}': string too long."
            return refusal(400, message, param=f"metadata.{name}", code="string_above_max_length")
    return None


def refuse_messages(messages: Sequence[Any], roles: Sequence[str], param: str) -> Response | None:
    """The refusal of messages without a content or in a role that is none."""
    for number, message in enumerate(messages):
        for required in ("role", "content"):
            if message.get(required) is None:
                return missing(f"{param}[{number}].{required}")
        if message["role"] not in roles:
            listed = ", ".join(f"'{role}'" for role in roles)
            words = f"Invalid value: '{message['role']}'. Supported values are: {listed}."
            return refusal(400, words, param=f"{param}[{number}].role", code="invalid_value")
    return None


def listing(entries: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """A page of a list: entries come oldest first, and go out newest first unless `order=asc`, as many as `limit`."""
    limit = int(request.query.get("limit", ["20"])[0])
    ordered = entries if request.query.get("order", ["desc"])[0] == "asc" else entries[::-1]
    page = ordered[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": len(ordered) > limit,
    }


def text_of(content: Any) -> str:
    """A message's text, whether its content is text or a list of parts."""
    if isinstance(content, str):
        return content
    texts = (part.get("text", "") for part in content or [])
    return "".join(text["value"] if isinstance(text, dict) else text for text in texts)
