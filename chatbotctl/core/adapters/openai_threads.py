"""The `threads` backend: Threads and Runs, for servers that still speak OpenAI's Assistants API.

OpenAI's own was shut on 2026-08-26; `base_url` names the server that took its place. Built by wiring, called by the
flow. Every wait here ends: with the run, or with the turn's timeout.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from chatbotctl.core.adapters import openai_turn as turn
from chatbotctl.core.adapters.openai_client import LazyClient, code_or, patience, provider_errors, unreadable
from chatbotctl.core.adapters.thread_handles import require_handle
from chatbotctl.core.errors import AssistantError, AssistantNotUsable
from chatbotctl.core.records.assistant import Answer, Question, Usage
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Line

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.beta.thread_create_params import Message as SeedMessage

    P = ParamSpec("P")
    R = TypeVar("R")

THREAD_PREFIX = "thread_"
#: Seconds between looks at a run: quick for a quick model, then gentle (about 30 looks in half a minute).
FIRST_LOOK, LAST_LOOK, GROWTH = 0.2, 1.0, 1.5
#: Seconds to ask for a run's end when its answer came too late: nobody waits for more.
CANCEL_SECONDS = 2.0
_UNDER_WAY = frozenset({"queued", "in_progress", "cancelling"})
#: Ends of a run, or the codes of a failed one, that a later attempt may mend.
_PASSING = frozenset({"expired", "server_error", "rate_limit_exceeded"})


class OpenAIThreads:
    """An Assistant over /v1/threads.

    Arguments: `api_key`, None for servers that ask for none; `base_url` of the server. The model is the assistant's
    own unless the business names one. Safe to call from many threads.
    """

    def __init__(self, *, api_key: str | None, base_url: str | None) -> None:
        self._has_server = base_url is not None
        self._client = LazyClient(api_key=api_key, base_url=base_url)

    def check(self, *, business: Business) -> None:
        """Raise AssistantNotUsable without an assistant id, a server, a key, or a valid address."""
        _require_assistant_id(business)
        self._require_server()
        self._client.check()

    def start_thread(
        self, *, business: Business, customer_hash: str, transcript: Sequence[Line], timeout: float
    ) -> str:
        """A new thread at the server."""
        del business  # the assistant is named with each run
        client = self._connect()
        messages: list[SeedMessage] = [
            {"role": turn.role(line), "content": line.text} for line in turn.seed(transcript)
        ]
        with provider_errors():
            thread = _quietly(client.beta.threads.create)(
                messages=messages, metadata={"customer": customer_hash}, timeout=patience(timeout)
            )
        handle = turn.text_or_none(getattr(thread, "id", None))
        if handle is None or not handle.startswith(THREAD_PREFIX):
            raise unreadable()
        return handle

    def ask(self, *, question: Question) -> Answer:
        """Ask once: add the message, run the assistant, wait for the run's end within the question's timeout.

        Raises ThreadGone, AssistantError, or AssistantNotUsable without an assistant id, server, key or valid address.
        """
        require_handle(question.ai_thread, THREAD_PREFIX)
        assistant_id = _require_assistant_id(question.business)
        return _Run(self._connect(), question, assistant_id).answer()

    def look_back(self, *, question: Question) -> Answer | None:
        """The answer at the end of the thread, when this question stands right before it."""
        require_handle(question.ai_thread, THREAD_PREFIX)
        client = self._connect()
        with provider_errors(handle=question.ai_thread):
            page = _quietly(client.beta.threads.messages.list)(
                question.ai_thread, order="desc", limit=20, timeout=patience(question.timeout)
            )
        messages = getattr(page, "data", None)
        answered = turn.behind_question(messages if isinstance(messages, list) else [], question.text)
        text = "\n\n".join(_text(message) for message in answered)
        return turn.answer(text, response_id=None, model=None, usage=Usage()) if text.strip() else None

    def close(self) -> None:
        """Close the connections; asking again opens new ones."""
        self._client.close()

    def _connect(self) -> OpenAI:
        self._require_server()
        return self._client.get()

    def _require_server(self) -> None:
        if not self._has_server:
            raise AssistantNotUsable(
                "There is no server for threads: OpenAI's own was shut on 2026-08-26.",
                hint="Set openai.beta_base_url, or move on: `chatbotctl business update NAME --backend openai`.",
            )


def _require_assistant_id(business: Business) -> str:
    if not business.assistant_id:
        raise AssistantNotUsable(
            "This business names no assistant.",
            hint="Name one with `chatbotctl business update NAME --assistant-id ID`.",
        )
    return business.assistant_id


class _Run:
    """One question's run, from its message to its answer."""

    def __init__(self, client: OpenAI, question: Question, assistant_id: str) -> None:
        self._client = client
        self._question = question
        self._assistant_id = assistant_id
        self._thread = question.ai_thread
        self._deadline = time.monotonic() + question.timeout
        self._under_way = True

    def answer(self) -> Answer:
        run_id = self._start()
        try:
            run = self._wait(run_id)
        except AssistantError:
            if self._under_way:
                self._cancel(run_id)  # left alone, it would block the thread for ten minutes
            raise
        return turn.answer(
            self._newest_text(run_id),
            response_id=run_id,
            model=getattr(run, "model", None),
            usage=turn.usage_of(getattr(run, "usage", None), asked="prompt", said="completion"),
        )

    def _start(self) -> str:
        from openai import omit

        business, threads = self._question.business, self._client.beta.threads
        with provider_errors(handle=self._thread):
            _quietly(threads.messages.create)(
                self._thread, role="user", content=self._question.text, timeout=patience(self._left())
            )
            run = _quietly(threads.runs.create)(
                self._thread,
                assistant_id=self._assistant_id,
                instructions=business.instructions if business.instructions.strip() else omit,
                model=business.model or omit,
                metadata={"turn": str(self._question.turn_id)},
                timeout=patience(self._left()),
            )
        run_id = turn.text_or_none(getattr(run, "id", None))
        if run_id is None:
            raise unreadable()
        return run_id

    def _wait(self, run_id: str) -> object:
        """The run, looked at until it is completed; every other end is an error."""
        pause = FIRST_LOOK
        while True:
            run = self._look(run_id)
            status = getattr(run, "status", None)
            if status == "completed":
                return run
            if run is not None and status not in _UNDER_WAY:
                self._under_way = status == "requires_action"
                raise _ended(run, status)
            time.sleep(min(pause, self._left()))
            pause = min(pause * GROWTH, LAST_LOOK)

    def _look(self, run_id: str) -> object:
        """The run as it stands; None when this one look failed in passing: the run goes on all the same."""
        left = self._left()
        try:
            with provider_errors(handle=self._thread):
                return _quietly(self._client.beta.threads.runs.retrieve)(
                    run_id, thread_id=self._thread, timeout=patience(left)
                )
        except AssistantError as exc:
            if not exc.retryable:
                raise
            return None

    def _newest_text(self, run_id: str) -> str:
        """The newest message that the assistant wrote in this run."""
        with provider_errors(handle=self._thread):
            page = _quietly(self._client.beta.threads.messages.list)(
                self._thread, run_id=run_id, order="desc", limit=20, timeout=patience(self._left())
            )
        messages = getattr(page, "data", None)
        for message in messages if isinstance(messages, list) else []:
            # Some servers overlook run_id and list the whole thread.
            if getattr(message, "role", None) == "assistant" and getattr(message, "run_id", None) in (None, run_id):
                return _text(message)
        raise unreadable()

    def _cancel(self, run_id: str) -> None:
        with suppress(AssistantError), provider_errors():
            _quietly(self._client.beta.threads.runs.cancel)(
                run_id, thread_id=self._thread, timeout=patience(CANCEL_SECONDS)
            )

    def _left(self) -> float:
        """Seconds left of the turn. Raises AssistantError when there are none: the run may still end well."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise AssistantError(
                "The AI provider took too long.", reason="timeout", retryable=True, unknown_outcome=True
            )
        return left


def _ended(run: object, status: object) -> AssistantError:
    """A run's end without an answer, as an error."""
    if status == "incomplete":
        return turn.cut_short(code_or(getattr(getattr(run, "incomplete_details", None), "reason", None), "incomplete"))
    if status == "requires_action":
        return AssistantError(
            "The assistant waits for a tool that nobody runs here.",
            reason="requires_action",
            hint="Take the functions out of the assistant at its provider.",
        )
    if status not in ("failed", "cancelled", "expired"):
        return unreadable()
    code = code_or(getattr(getattr(run, "last_error", None), "code", None), str(status))
    return AssistantError("The AI provider could not finish the answer.", reason=code, retryable=code in _PASSING)


def _text(message: object) -> str:
    """A message's text parts. Raises AssistantError for a refusal."""
    content = getattr(message, "content", None)
    parts = content if isinstance(content, list) else []
    texts = [
        getattr(getattr(part, "text", None), "value", None) for part in parts if getattr(part, "type", None) == "text"
    ]
    text = "\n\n".join(text for text in texts if isinstance(text, str))
    if not text.strip() and any(getattr(part, "type", None) == "refusal" for part in parts):
        raise turn.declined()
    return text


def _quietly(method: Callable[P, R]) -> Callable[P, R]:
    """A method of the SDK without its DeprecationWarning: that this API is old is why the backend exists.

    The decorator keeps the plain function as `__wrapped__`. `warnings.catch_warnings` would not do: it changes the
    filters of the whole process, under the feet of other threads.
    """
    if not hasattr(method, "__deprecated__"):
        return method
    plain: Callable[P, R] = functools.partial(method.__wrapped__, method.__self__)  # type: ignore[attr-defined]
    return plain
