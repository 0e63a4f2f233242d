"""The `openai` backend: OpenAI's Responses, over Conversations that the provider keeps or over our own transcript.

With history `provider` each customer has a conversation (`conv_...`) at the provider, and a question carries only the
new text. With history `local` nothing is kept there (`store=False`) and the question carries the last turns, for
servers that speak /v1/responses but keep no conversations. Built by wiring, called by the flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from chatbotctl.core.adapters import openai_turn as turn
from chatbotctl.core.adapters.openai_client import LazyClient, code_or, patience, post, provider_errors, unreadable
from chatbotctl.core.adapters.thread_handles import LOCAL_PREFIX, local_handle, require_handle
from chatbotctl.core.errors import AssistantError
from chatbotctl.core.records.assistant import Answer, Question, Usage
from chatbotctl.core.records.business import Business, History
from chatbotctl.core.records.conversation import Line

if TYPE_CHECKING:
    from openai.types.responses import EasyInputMessageParam, ResponseCreateParams, ResponseInputItemParam

#: What OpenAI's conversation ids start with. A `thread_...` of the Assistants API, shut in 2026, is none.
CONVERSATION_PREFIX = "conv_"
#: Newest items of a conversation among which an unheard answer is looked for: a question, searches, and the answer.
LOOK_BACK_ITEMS = 20
#: Codes of a failed response that a later attempt may mend.
_PASSING = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout"})


class OpenAIResponses:
    """An Assistant over /v1/responses and /v1/conversations.

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
        """A new conversation at the provider, or a handle of our own making when history is `local`."""
        if business.history is History.LOCAL:
            return local_handle()
        client = self._client.get()
        with provider_errors():
            conversation = client.conversations.create(
                items=_items(turn.seed(transcript)),
                metadata={"customer": customer_hash},
                timeout=patience(timeout),
            )
        handle = turn.text_or_none(getattr(conversation, "id", None))
        if handle is None or not handle.startswith(CONVERSATION_PREFIX):
            raise unreadable()
        return handle

    def ask(self, *, question: Question) -> Answer:
        """Ask once. Raises ThreadGone, AssistantError, or AssistantNotUsable without a model, key or valid address."""
        business = question.business
        local = business.history is History.LOCAL
        require_handle(question.ai_thread, LOCAL_PREFIX if local else CONVERSATION_PREFIX)
        model = turn.require_model(business, self._default_model)
        client = self._client.get()
        with provider_errors(handle=None if local else question.ai_thread):
            response = post(client, "/responses", _body(question, model), timeout=question.timeout)
        return _answer(response)

    def look_back(self, *, question: Question) -> Answer | None:
        """The answer at the end of the provider's conversation, when this question stands right before it."""
        if question.business.history is History.LOCAL:
            return None
        require_handle(question.ai_thread, CONVERSATION_PREFIX)
        client = self._client.get()
        with provider_errors(handle=question.ai_thread):
            page = client.conversations.items.list(
                question.ai_thread, order="desc", limit=LOOK_BACK_ITEMS, timeout=patience(question.timeout)
            )
        items = getattr(page, "data", None)
        answered = turn.behind_question(items if isinstance(items, list) else [], question.text)
        text, _ = _said(answered)
        if not text.strip() or any(getattr(item, "status", None) == "incomplete" for item in answered):
            return None
        return turn.answer(text, response_id=None, model=None, usage=Usage())

    def close(self) -> None:
        """Close the connections; asking again opens new ones."""
        self._client.close()


def _body(question: Question, model: str) -> ResponseCreateParams:
    business = question.business
    body: ResponseCreateParams = {
        "model": model,
        "input": _items([turn.customer_line(question.text)]),
        "truncation": "auto",
        "safety_identifier": question.customer_hash,
        "metadata": {"turn": str(question.turn_id)},
    }
    if business.history is History.LOCAL:
        body["store"] = False
        body["input"] = _items([*question.transcript, turn.customer_line(question.text)])
    else:
        # A plain string: other servers refuse the object form.
        body["conversation"] = question.ai_thread
    if business.instructions.strip():
        body["instructions"] = business.instructions
    if business.vector_store_ids:
        body["tools"] = [{"type": "file_search", "vector_store_ids": list(business.vector_store_ids)}]
    return body


def _items(lines: Iterable[Line]) -> list[ResponseInputItemParam]:
    messages: list[EasyInputMessageParam] = [
        {"type": "message", "role": turn.role(line), "content": line.text} for line in turn.spoken(lines)
    ]
    return [*messages]


def _answer(response: object) -> Answer:
    """The response's text. HTTP 200 says nothing yet, and the SDK does not validate what the server sent."""
    output = getattr(response, "output", None)
    status = getattr(response, "status", None)
    if status in ("failed", "cancelled"):
        code = code_or(getattr(getattr(response, "error", None), "code", None), status)
        raise AssistantError("The AI provider could not finish the answer.", reason=code, retryable=code in _PASSING)
    if status == "incomplete":
        limit = code_or(getattr(getattr(response, "incomplete_details", None), "reason", None), status)
        raise turn.declined(limit) if limit == "content_filter" else turn.cut_short(limit)
    # Some compatible servers leave the status out; with text in the output that is an answer all the same.
    if status not in ("completed", None) or not isinstance(output, list):
        raise unreadable()
    text, refusal = _said(output)
    if refusal and not text:
        raise turn.declined()
    return turn.answer(
        text,
        response_id=getattr(response, "id", None),
        model=getattr(response, "model", None),
        usage=turn.usage_of(getattr(response, "usage", None), asked="input", said="output"),
    )


def _said(output: list[object]) -> tuple[str, bool]:
    """The text of the messages in `output`, and whether a refusal is among them.

    Newer models also put their thinking aloud there, as messages of phase `commentary`: not for the customer.
    """
    messages: list[str] = []
    refusal = False
    for item in output:
        if getattr(item, "type", None) != "message" or getattr(item, "phase", None) == "commentary":
            continue
        content = getattr(item, "content", None)
        parts = content if isinstance(content, list) else []
        refusal = refusal or any(getattr(part, "type", None) == "refusal" for part in parts)
        texts = [getattr(part, "text", None) for part in parts if getattr(part, "type", None) == "output_text"]
        messages.append("".join(text for text in texts if isinstance(text, str)))
    return "\n\n".join(message for message in messages if message.strip()), refusal
