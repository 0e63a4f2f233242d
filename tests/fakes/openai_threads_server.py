"""The Threads and Runs of the fake OpenAI: what servers still speak that took the shut Assistants API's place.

A run goes queued -> in_progress -> its end, one state per `polls`; tests plan its end with FakeOpenAI.plan_answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.loopback import Request, Response
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
    text_of,
)

if TYPE_CHECKING:
    from tests.fakes.openai_server import FakeOpenAI

#: The ends of a run that are not `completed`; `stuck` never ends.
_ENDS = ("failed", "expired", "cancelled", "incomplete", "requires_action")
_UNDER_WAY = ("queued", "in_progress", "requires_action")


@dataclass
class FakeRun:
    id: str
    thread_id: str
    body: dict[str, Any]
    planned: PlannedAnswer
    reply: str
    created_at: int
    polls: int
    status: str = "queued"


@dataclass
class FakeThread:
    id: str
    metadata: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, FakeRun] = field(default_factory=dict)

    @property
    def said(self) -> tuple[tuple[str, str], ...]:
        """(role, text) of each message."""
        return tuple((message["role"], text_of(message["content"])) for message in self.messages)


class ThreadsService:
    """State and answers of /v1/threads; `fake.threads.threads` holds the threads by id."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._fake = fake
        #: How often a run is looked at before it ends (1: it ends under the first look).
        self.polls = 2
        self.threads: dict[str, FakeThread] = {}
        #: None: every assistant id is known.
        self.assistants: set[str] | None = None
        thread, run = r"/v1/threads/([^/]+)", r"/v1/threads/([^/]+)/runs/([^/]+)"
        routes: list[Route] = [
            ("POST", r"/v1/threads", self._create_thread),
            ("GET", thread, self._get_thread),
            ("DELETE", thread, self._delete_thread),
            ("POST", f"{thread}/messages", self._create_message),
            ("GET", f"{thread}/messages", self._list_messages),
            ("POST", f"{thread}/runs", self._create_run),
            ("GET", run, self._get_run),
            ("POST", f"{run}/cancel", self._cancel_run),
        ]
        self.routes = [(method, path, _with_beta(answer)) for method, path, answer in routes]

    @property
    def runs(self) -> list[FakeRun]:
        """Every run of every thread."""
        return [run for thread in self.threads.values() for run in thread.runs.values()]

    def _create_thread(self, request: Request) -> Response:
        body = request.json or {}
        refused = _refuse_messages(body.get("messages") or [])
        if refused is not None:
            return refused
        thread = FakeThread(new_id("thread_"), body.get("metadata") or {})
        thread.messages.extend(
            _message(thread.id, m["role"], text_of(m["content"])) for m in body.get("messages") or []
        )
        with self._fake.lock:
            self.threads[thread.id] = thread
        return Response(body=_thread_body(thread))

    def _get_thread(self, request: Request, thread_id: str) -> Response:
        thread = self.threads.get(thread_id)
        return _unknown_thread(thread_id) if thread is None else Response(body=_thread_body(thread))

    def _delete_thread(self, request: Request, thread_id: str) -> Response:
        if self.threads.pop(thread_id, None) is None:
            return _unknown_thread(thread_id)
        return Response(body={"id": thread_id, "object": "thread.deleted", "deleted": True})

    def _create_message(self, request: Request, thread_id: str) -> Response:
        thread = self.threads.get(thread_id)
        if thread is None:
            return _unknown_thread(thread_id)
        body = request.json or {}
        refused = _refuse_messages([body])
        if refused is not None:
            return refused
        text = text_of(body["content"])
        with self._fake.lock:
            active = self._active(thread)
            if active is not None:
                return refusal(400, f"Can't add messages to {thread_id} while a run {active.id} is active.")
            thread.messages.append(_message(thread_id, body["role"], text))
            return Response(body=thread.messages[-1])

    def _list_messages(self, request: Request, thread_id: str) -> Response:
        thread = self.threads.get(thread_id)
        if thread is None:
            return _unknown_thread(thread_id)
        wanted = request.query.get("run_id", [None])[0]
        messages = [m for m in thread.messages if wanted in (None, m["run_id"])]
        return Response(body=listing(messages, request))

    def _create_run(self, request: Request, thread_id: str) -> Response:
        body = request.json or {}
        assistant_id = body.get("assistant_id")
        thread = self.threads.get(thread_id)
        if thread is None:
            return _unknown_thread(thread_id)
        if not assistant_id:
            return missing("assistant_id")
        if self.assistants is not None and assistant_id not in self.assistants:
            return refusal(404, f"No assistant found with id '{assistant_id}'.")
        refused = self._fake.model_refusal(body.get("model") or "the assistant's own")
        if refused is not None:
            return refused
        with self._fake.lock:
            active = self._active(thread)
            if active is not None:
                return refusal(400, f"Thread {thread_id} already has an active run {active.id}.")
            run = FakeRun(new_id("run_"), thread_id, body, PlannedAnswer(), "", int(time.time()), self.polls)
            thread.runs[run.id] = run
        said = thread.said
        run.reply, run.planned = self._fake.think(
            Asked(
                api="runs",
                text=said[-1][1] if said else "",
                instructions=body.get("instructions"),
                model=body.get("model"),
                handle=thread_id,
                history=said[:-1],
            )
        )
        return Response(body=_run_body(run))

    def _get_run(self, request: Request, thread_id: str, run_id: str) -> Response:
        run = self._run(thread_id, run_id)
        if run is None:
            return _unknown_run(thread_id, run_id)
        with self._fake.lock:
            self._advance(run)
        return Response(body=JUNK if run.planned.kind == "junk" and run.status == "completed" else _run_body(run))

    def _cancel_run(self, request: Request, thread_id: str, run_id: str) -> Response:
        run = self._run(thread_id, run_id)
        if run is None:
            return _unknown_run(thread_id, run_id)
        if run.status not in _UNDER_WAY:
            return refusal(400, f"Cannot cancel run with status '{run.status}'.")
        run.status = "cancelled"
        return Response(body=_run_body(run))

    def _advance(self, run: FakeRun) -> None:
        """One look at a run brings it nearer to its end."""
        if run.status not in ("queued", "in_progress"):
            return
        run.polls -= 1
        if run.polls > 0 or run.planned.kind == "stuck":
            run.status = "in_progress"
            return
        run.status = run.planned.kind if run.planned.kind in _ENDS else "completed"
        if run.status == "completed":
            thread = self.threads[run.thread_id]
            thread.messages.append(_reply_message(run))

    def _active(self, thread: FakeThread) -> FakeRun | None:
        return next((run for run in thread.runs.values() if run.status in _UNDER_WAY), None)

    def _run(self, thread_id: str, run_id: str) -> FakeRun | None:
        thread = self.threads.get(thread_id)
        return thread.runs.get(run_id) if thread is not None else None


def _with_beta(answer: Callable[..., Response]) -> Callable[..., Response]:
    """`answer`, which refuses requests without the header that this API wants."""

    def checked(request: Request, *found: str) -> Response:
        if "assistants=v2" in request.headers.get("openai-beta", ""):
            return answer(request, *found)
        message = "You must provide the 'OpenAI-Beta' header to access the Assistants API (assistants=v2)."
        return refusal(400, message, code="invalid_beta")

    return checked


def _refuse_messages(messages: list[dict[str, Any]]) -> Response | None:
    refused = refuse_messages(messages, ("user", "assistant"), "messages")
    if refused is None and not all(text_of(message["content"]) for message in messages):
        return refusal(400, "Message content must be non-empty.")
    return refused


def _unknown_thread(thread_id: str) -> Response:
    return refusal(404, f"No thread found with id '{thread_id}'.")


def _unknown_run(thread_id: str, run_id: str) -> Response:
    return refusal(404, f"No run found with id '{run_id}' in thread '{thread_id}'.")


def _thread_body(thread: FakeThread) -> dict[str, Any]:
    return {
        "id": thread.id,
        "object": "thread",
        "created_at": int(time.time()),
        "metadata": thread.metadata,
        "tool_resources": {},
    }


def _message(thread_id: str, role: str, text: str, run: FakeRun | None = None) -> dict[str, Any]:
    return {
        "id": new_id("msg_"),
        "object": "thread.message",
        "created_at": int(time.time()),
        "thread_id": thread_id,
        "status": "completed",
        "incomplete_details": None,
        "completed_at": int(time.time()),
        "incomplete_at": None,
        "role": role,
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "assistant_id": run.body["assistant_id"] if run is not None else None,
        "run_id": run.id if run is not None else None,
        "attachments": [],
        "metadata": {},
    }


def _reply_message(run: FakeRun) -> dict[str, Any]:
    message = _message(run.thread_id, "assistant", run.reply, run)
    if run.planned.kind == "refusal":
        message["content"] = [{"type": "refusal", "refusal": DECLINED}]
    if run.planned.kind == "empty":
        message["content"] = []
    return message


def _run_body(run: FakeRun) -> dict[str, Any]:
    now, kind, code = int(time.time()), run.status, run.planned.code
    details = {"code": code or "server_error", "message": "Sorry, something went wrong."}
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    usage = {"prompt_tokens": 21, "completion_tokens": 7, "total_tokens": 28}
    return {
        "id": run.id,
        "object": "thread.run",
        "created_at": run.created_at,
        "thread_id": run.thread_id,
        "assistant_id": run.body["assistant_id"],
        "status": kind,
        "required_action": action if kind == "requires_action" else None,
        "last_error": details if kind == "failed" else None,
        "expires_at": None if kind == "completed" else run.created_at + 600,
        "started_at": None if kind == "queued" else run.created_at,
        "cancelled_at": now if kind == "cancelled" else None,
        "failed_at": now if kind == "failed" else None,
        "completed_at": now if kind == "completed" else None,
        "incomplete_details": {"reason": code or "max_completion_tokens"} if kind == "incomplete" else None,
        "model": run.body.get("model") or "gpt-test",
        "instructions": run.body.get("instructions") or "",
        "tools": [],
        "metadata": run.body.get("metadata") or {},
        "usage": usage if kind == "completed" else None,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_prompt_tokens": None,
        "max_completion_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": "auto",
    }
