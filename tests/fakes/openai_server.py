"""A loopback OpenAI: Conversations, Responses and Chat Completions here; threads and vector stores in modules beside.

It keeps what it is told, counts what it was asked, and refuses what the real service refuses, in the same words.
Point a client's base URL at `fake.base_url`.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.loopback import LoopbackServer, Request, Response
from tests.fakes.openai_threads_server import ThreadsService
from tests.fakes.openai_vector_stores_server import VectorStoresService
from tests.fakes.openai_wire import (
    DECLINED,
    JUNK,
    Asked,
    PlannedAnswer,
    Route,
    listing,
    missing,
    new_id,
    refusal,
    refuse_messages,
    refuse_unreadable,
    text_of,
)

#: Who may speak in an item of a conversation or of a response's input.
ROLES = ("user", "assistant", "system", "developer")
#: What every answer is said to have taken.
USAGE = {
    "input_tokens": 21,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 28,
}


@dataclass
class FakeConversation:
    """A conversation and its items, oldest first."""

    id: str
    metadata: dict[str, str]
    items: list[dict[str, Any]] = field(default_factory=list)
    busy: bool = False

    @property
    def said(self) -> tuple[tuple[str, str], ...]:
        """(role, text) of each message."""
        return tuple((item["role"], text_of(item["content"])) for item in self.items)


class FakeOpenAI(LoopbackServer):
    """`FakeOpenAI(keys={"sk-test"})`; without keys any bearer key is taken."""

    def __init__(self, keys: set[str] | None = None) -> None:
        super().__init__()
        self.keys = keys
        #: Decides the answer's text from the customer's newest text.
        self.reply: Callable[[str], str] = lambda text: f"You said: {text}"
        #: Seconds that an answer takes; the conversation is locked meanwhile.
        self.thinking = 0.0
        self.unknown_models: set[str] = set()
        self.conversations: dict[str, FakeConversation] = {}
        self.asked: list[Asked] = []
        self._planned: deque[PlannedAnswer] = deque()
        self.threads = ThreadsService(self)
        self.vector_stores = VectorStoresService(self)
        self._routes: list[Route] = [
            ("POST", r"/v1/conversations", self._create_conversation),
            ("GET", r"/v1/conversations/([^/]+)", self._get_conversation),
            ("DELETE", r"/v1/conversations/([^/]+)", self._delete_conversation),
            ("GET", r"/v1/conversations/([^/]+)/items", self._list_items),
            ("POST", r"/v1/responses", self._create_response),
            ("POST", r"/v1/chat/completions", self._create_completion),
            ("GET", r"/v1/models", self._list_models),
            *self.threads.routes,
            *self.vector_stores.routes,
        ]

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    # what a test says

    def plan_answer(self, kind: str, *, code: str = "", times: int = 1) -> None:
        """Spoil the next answers, with HTTP 200 all the same.

        `failed` (code: the error's), `incomplete` (code: max_output_tokens or content_filter), `refusal`, `empty`,
        `junk` (JSON that is no answer); for runs also `expired`, `cancelled`, `requires_action`, `stuck`.
        """
        with self.lock:
            self._planned.extend([PlannedAnswer(kind, code)] * times)

    def forget(self) -> None:
        """Lose every conversation and thread, as a provider that shuts a service does."""
        with self.lock:
            self.conversations.clear()
            self.threads.threads.clear()

    # what the services share

    def think(self, asked: Asked) -> tuple[str, PlannedAnswer]:
        """The model at work: the text it answers, and how the answer is spoilt (kind "" when it is not)."""
        with self.lock:
            self.asked.append(asked)
            planned = self._planned.popleft() if self._planned else PlannedAnswer()
        if self.thinking:
            self._closing.wait(self.thinking)
        return self.reply(asked.text), planned

    def handle(self, request: Request) -> Response:
        refused = self._unauthorized(request) or refuse_unreadable(request)
        if refused is not None:
            return refused
        known = False
        for method, pattern, handler in self._routes:
            found = re.fullmatch(pattern, request.path)
            known = known or found is not None
            if found is not None and method == request.method:
                return handler(request, *found.groups())
        status = 405 if known else 404
        return refusal(status, f"Invalid URL ({request.method} {request.path})")

    def model_refusal(self, model: object) -> Response | None:
        """The refusal of a missing or unknown model."""
        if not isinstance(model, str) or not model:
            return missing("model")
        if model in self.unknown_models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            return refusal(404, message, code="model_not_found")
        return None

    def _unauthorized(self, request: Request) -> Response | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            return refusal(401, "You didn't provide an API key in an Authorization header (Bearer YOUR_KEY).")
        if self.keys is not None and key not in self.keys:
            masked = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"
            return refusal(401, f"Incorrect API key provided: {masked}.", code="invalid_api_key")
        return None

    # conversations

    def _create_conversation(self, request: Request) -> Response:
        body = request.json or {}
        items = body.get("items") or []
        if len(items) > 20:
            message = (
                f"Invalid 'items': array too long. Expected maximum length 20, but got length {len(items)} instead."
            )
            return refusal(400, message, param="items", code="array_above_max_length")
        refused = refuse_messages(items, ROLES, "items")
        if refused is not None:
            return refused
        conversation = FakeConversation(new_id("conv_"), body.get("metadata") or {})
        conversation.items.extend(_stored_item(item) for item in items)
        with self.lock:
            self.conversations[conversation.id] = conversation
        return Response(body=_conversation_body(conversation))

    def _get_conversation(self, request: Request, conversation_id: str) -> Response:
        conversation = self.conversations.get(conversation_id)
        return _unknown(conversation_id) if conversation is None else Response(body=_conversation_body(conversation))

    def _delete_conversation(self, request: Request, conversation_id: str) -> Response:
        with self.lock:
            gone = self.conversations.pop(conversation_id, None)
        if gone is None:
            return _unknown(conversation_id)
        return Response(body={"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    def _list_items(self, request: Request, conversation_id: str) -> Response:
        conversation = self.conversations.get(conversation_id)
        if conversation is None:
            return _unknown(conversation_id)
        return Response(body=listing(list(conversation.items), request))

    # responses

    def _create_response(self, request: Request) -> Response:
        body = request.json or {}
        conversation_id = body.get("conversation")
        refused = self.model_refusal(body.get("model")) or self.vector_stores.refuse_unknown(body.get("tools") or [])
        refused = refused or _refuse_input(body)
        if refused is not None:
            return refused
        given = _input_items(body["input"])
        if conversation_id is None:
            return Response(body=self._respond(body, given, None))
        with self.lock:
            conversation = self.conversations.get(conversation_id) if isinstance(conversation_id, str) else None
            if conversation is None:
                return _unknown(str(conversation_id))
            if conversation.busy:
                message = "Another process is currently operating on this conversation. Please retry in a few seconds."
                return refusal(400, message, param="conversation", code="conversation_locked")
            conversation.busy = True
        try:
            return Response(body=self._respond(body, given, conversation))
        finally:
            conversation.busy = False

    def _respond(
        self, body: dict[str, Any], given: list[dict[str, Any]], conversation: FakeConversation | None
    ) -> dict[str, Any]:
        before = conversation.said if conversation is not None else ()
        said = tuple((item["role"], text_of(item["content"])) for item in given)
        asked = Asked(
            api="responses",
            text=said[-1][1],
            instructions=body.get("instructions"),
            model=body["model"],
            handle=conversation.id if conversation is not None else None,
            history=(*before, *said[:-1]),
        )
        text, planned = self.think(asked)
        if planned.kind == "junk":
            return JUNK
        message = _output_message(text, planned)
        status = planned.kind if planned.kind in ("failed", "incomplete") else "completed"
        output = [] if status == "failed" else [message]
        if conversation is not None and status != "failed":
            conversation.items.extend([*given, *output])
        return _response_body(body, status, planned, output, conversation)

    # chat completions

    def _create_completion(self, request: Request) -> Response:
        body = request.json or {}
        refused = self.model_refusal(body.get("model"))
        if refused is not None:
            return refused
        messages = body.get("messages") or []
        if not messages:
            return refusal(400, "Invalid 'messages': empty array.", param="messages", code="empty_array")
        refused = refuse_messages(messages, (*ROLES, "tool", "function"), "messages")
        if refused is not None:
            return refused
        spoken = [(m["role"], text_of(m["content"])) for m in messages if m["role"] != "system"]
        system = [text_of(m["content"]) for m in messages if m["role"] == "system"]
        asked = Asked(
            api="chat",
            text=spoken[-1][1] if spoken else "",
            instructions=system[0] if system else None,
            model=body["model"],
            handle=None,
            history=tuple(spoken[:-1]),
        )
        text, planned = self.think(asked)
        if planned.kind == "junk":
            return Response(body=JUNK)
        if planned.kind == "failed":
            return refusal(500, "The server had an error while processing your request.", kind="server_error")
        finish = "stop"
        if planned.kind == "incomplete":
            finish = "content_filter" if planned.code == "content_filter" else "length"
        content = {"refusal": None, "empty": ""}.get(planned.kind, text)
        declined = DECLINED if planned.kind == "refusal" else None
        message = {"role": "assistant", "content": content, "refusal": declined, "annotations": []}
        return Response(
            body={
                "id": new_id("chatcmpl-"),
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
                "usage": {
                    "prompt_tokens": 21,
                    "completion_tokens": 7,
                    "total_tokens": 28,
                    "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
                },
            }
        )

    def _list_models(self, request: Request) -> Response:
        model = {"id": "gpt-test", "object": "model", "created": 1, "owned_by": "openai"}
        return Response(body={"object": "list", "data": [model]})


def _unknown(conversation_id: str) -> Response:
    return refusal(404, f"Conversation with id '{conversation_id}' not found.")


def _conversation_body(conversation: FakeConversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": int(time.time()),
        "metadata": conversation.metadata,
    }


def _refuse_input(body: dict[str, Any]) -> Response | None:
    """The refusal of what a response is asked with, beside its model and its tools."""
    if not body.get("input"):
        return missing("input")
    if len(body.get("safety_identifier") or "") > 64:
        message = "Invalid 'safety_identifier': string too long. Expected a string with maximum length 64."
        return refusal(400, message, param="safety_identifier", code="string_above_max_length")
    return None if isinstance(body["input"], str) else refuse_messages(body["input"], ROLES, "input")


def _input_items(given: Any) -> list[dict[str, Any]]:
    """A response's input, text or list, as stored items."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_stored_item(item) for item in given]


def _stored_item(item: dict[str, Any]) -> dict[str, Any]:
    """An input message as the provider keeps it: with an id, and its text in parts."""
    text = text_of(item["content"])
    part: dict[str, Any] = {"type": "input_text", "text": text}
    if item["role"] == "assistant":
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": new_id("msg_"), "type": "message", "status": "completed", "role": item["role"], "content": [part]}


def _output_message(text: str, planned: PlannedAnswer) -> dict[str, Any]:
    message = _stored_item({"role": "assistant", "content": text})
    if planned.kind == "refusal":
        message["content"] = [{"type": "refusal", "refusal": DECLINED}]
    if planned.kind == "empty":
        message["content"] = []
    if planned.kind == "incomplete":
        message["status"] = "incomplete"
    return message


def _response_body(
    body: dict[str, Any],
    status: str,
    planned: PlannedAnswer,
    output: list[dict[str, Any]],
    conversation: FakeConversation | None,
) -> dict[str, Any]:
    error = {"code": planned.code or "server_error", "message": "An error occurred while processing your request."}
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": error if status == "failed" else None,
        "incomplete_details": {"reason": planned.code or "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": body.get("truncation") or "disabled",
        "conversation": {"id": conversation.id} if conversation is not None else None,
        "store": body.get("store", True),
        **({} if status == "failed" else {"usage": USAGE}),
    }
