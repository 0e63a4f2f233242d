"""What the parts of the fake OpenAI share: ids, error bodies, lists, messages, and the record of what was asked.

Used by openai_server, openai_threads_server and openai_vector_stores_server; knows none of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
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
