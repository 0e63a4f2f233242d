"""All three OpenAI adapters on one fake server, for the suites of their errors and of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chatbotctl.core.adapters.openai_chat import OpenAIChat
from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.adapters.openai_threads import OpenAIThreads
from chatbotctl.core.errors import AssistantError
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.business import Business, History
from chatbotctl.core.records.conversation import Author, Line
from tests.fakes.openai_server import FakeOpenAI

KEY = "sk-canary-5f1c0a9e77"
SHOP = Business(id=1, name="shop", whatsapp_address="whatsapp:+15550001111", assistant_id="asst_1")
PRIVATE = "my password is canary-8841"


@dataclass
class Backends:
    """All three adapters on one fake server."""

    fake: FakeOpenAI
    responses: OpenAIResponses
    chat: OpenAIChat
    threads: OpenAIThreads

    def question(self, handle: str, *, business: Business = SHOP, timeout: float = 10.0) -> Question:
        return Question(
            business=business,
            ai_thread=handle,
            text=PRIVATE,
            transcript=(Line(author=Author.CUSTOMER, text="Hello"),),
            customer_hash="c0ffee",
            turn_id=7,
            timeout=timeout,
        )

    def conversation(self) -> str:
        return self.responses.start_thread(business=SHOP, customer_hash="c0ffee", transcript=(), timeout=10)

    def thread(self) -> str:
        return self.threads.start_thread(business=SHOP, customer_hash="c0ffee", transcript=(), timeout=10)

    def ask(self, handle: str | None = None) -> Answer:
        return self.responses.ask(question=self.question(handle or self.conversation()))

    def failure(self, handle: str | None = None) -> AssistantError:
        with pytest.raises(AssistantError) as caught:
            self.ask(handle)
        return caught.value

    def run_failure(self, *, timeout: float = 10.0) -> AssistantError:
        handle = self.thread()
        with pytest.raises(AssistantError) as caught:
            self.threads.ask(question=self.question(handle, timeout=timeout))
        return caught.value

    def ways(self) -> list[Callable[[], object]]:
        """Every way to ask, conversations that must first be made included."""
        local = replace(SHOP, history=History.LOCAL)
        return [
            self.conversation,
            self.thread,
            lambda: self.responses.ask(question=self.question("conv_1")),
            lambda: self.responses.ask(question=self.question("local_1", business=local)),
            lambda: self.chat.ask(question=self.question("local_1")),
            lambda: self.threads.ask(question=self.question("thread_1")),
        ]


@contextmanager
def open_backends() -> Iterator[Backends]:
    """All of them, on a server that takes only KEY and ends runs under the first look."""
    with FakeOpenAI(keys={KEY}) as fake:
        url = fake.base_url
        fake.threads.polls = 1
        backends = Backends(
            fake,
            OpenAIResponses(api_key=KEY, base_url=url, default_model="gpt-test"),
            OpenAIChat(api_key=KEY, base_url=url, default_model="gpt-test"),
            OpenAIThreads(api_key=KEY, base_url=url),
        )
        yield backends
        for assistant in (backends.responses, backends.chat, backends.threads):
            assistant.close()


def error_body(message: str = "no", *, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
