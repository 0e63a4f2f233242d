"""The `chat` backend: Chat Completions with our own transcript, for any server that speaks OpenAI's oldest protocol.

Ollama, vLLM, llama.cpp, Azure and most others do. Nothing is kept at the server, and only what all of them take is
sent: model and messages. Vector stores cannot be searched here. Built by wiring, called by the flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatbotctl.core.adapters import openai_turn as turn
from chatbotctl.core.adapters.openai_client import LazyClient, post, provider_errors, unreadable
from chatbotctl.core.adapters.thread_handles import LOCAL_PREFIX, local_handle, require_handle
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Line

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam


class OpenAIChat:
    """An Assistant over /v1/chat/completions.

    Arguments: `api_key`, None for servers that ask for none; `base_url`, None for OpenAI's own; `default_model` for
    businesses that name none. Safe to call from many threads.
    """

    def __init__(self, *, api_key: str | None, base_url: str | None, default_model: str | None) -> None:
        self._client = LazyClient(api_key=api_key, base_url=base_url)
        self._default_model = default_model

    def check(self, *, business: Business) -> None:
        """Raise AssistantNotUsable without a model, a key, or a valid address."""
        turn.require_model(business, self._default_model)
        self._client.check()

    def start_thread(
        self, *, business: Business, customer_hash: str, transcript: Sequence[Line], timeout: float
    ) -> str:
        """A handle of our own making: the server is told the transcript with every question."""
        del business, customer_hash, transcript, timeout  # the server hears nothing of a new conversation
        return local_handle()

    def look_back(self, *, question: Question) -> Answer | None:
        """Nothing: the server keeps no conversation."""

    def ask(self, *, question: Question) -> Answer:
        """Ask once. Raises ThreadGone, AssistantError, or AssistantNotUsable without a model, key or valid address."""
        require_handle(question.ai_thread, LOCAL_PREFIX)
        model = turn.require_model(question.business, self._default_model)
        client = self._client.get()
        with provider_errors():
            body = {"model": model, "messages": _messages(question)}
            completion = post(client, "/chat/completions", body, timeout=question.timeout)
        return _answer(completion)

    def close(self) -> None:
        """Close the connections; asking again opens new ones."""
        self._client.close()


def _messages(question: Question) -> list[ChatCompletionMessageParam]:
    messages: list[ChatCompletionMessageParam] = []
    if question.business.instructions.strip():
        messages.append({"role": "system", "content": question.business.instructions})
    for line in turn.spoken(question.transcript):
        if turn.role(line) == "user":
            messages.append({"role": "user", "content": line.text})
        else:
            messages.append({"role": "assistant", "content": line.text})
    messages.append({"role": "user", "content": question.text})
    return messages


def _answer(completion: object) -> Answer:
    """The first choice's text. `completion` is whatever the server sent: the SDK does not validate it."""
    choices = getattr(completion, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        raise unreadable()
    finish = getattr(choice, "finish_reason", None)
    if finish == "content_filter":
        raise turn.declined("content_filter")
    if turn.text_or_none(getattr(message, "refusal", None)):
        raise turn.declined()
    if finish == "length":
        raise turn.cut_short("length")
    return turn.answer(
        getattr(message, "content", None),
        response_id=getattr(completion, "id", None),
        model=getattr(completion, "model", None),
        usage=turn.usage_of(getattr(completion, "usage", None), asked="prompt", said="completion"),
    )
