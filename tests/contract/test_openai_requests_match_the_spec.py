"""What our adapters send to OpenAI, and what the fake answers them, is as OpenAI's own description has it.

Chat Completions and vector stores are not in the descriptions at hand; their own suites hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.adapters.openai_threads import OpenAIThreads
from chatbotctl.core.errors import AssistantError
from chatbotctl.core.records.assistant import Question
from chatbotctl.core.records.business import Business, History
from chatbotctl.core.records.conversation import Author, Line
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.specs import answer_violations, needs_specs, violations

pytestmark = needs_specs

LIVE, OLD = "openai_responses_conversations", "openai_assistants_threads"
SHOP = Business(
    id=1,
    name="shop",
    whatsapp_address="whatsapp:+15550001111",
    model="gpt-test",
    instructions="Be brief.",
    assistant_id="asst_1",
    vector_store_ids=("vs_1",),
)
BARE = replace(SHOP, model=None, instructions="", vector_store_ids=())
PAST = (Line(author=Author.CUSTOMER, text="Do you sell tea?"), Line(author=Author.OPERATOR, text="Yes."))


class RecordingFake(FakeOpenAI):
    """Keeps the answers too."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[tuple[Request, Response]] = []

    def handle(self, request: Request) -> Response:
        response = super().handle(request)
        self.exchanges.append((request, response))
        return response


@pytest.fixture
def fake() -> Iterator[RecordingFake]:
    with RecordingFake() as fake:
        fake.vector_stores.add("vs_1")
        yield fake


@dataclass(frozen=True)
class Talk:
    """One conversation of two questions."""

    spec: str
    business: Business
    past: tuple[Line, ...] = ()
    plan: str = ""

    def hold(self, fake: FakeOpenAI) -> None:
        adapter: OpenAIResponses | OpenAIThreads
        if self.spec == LIVE:
            adapter = OpenAIResponses(api_key="sk-test", base_url=fake.base_url, default_model="gpt-test")
        else:
            adapter = OpenAIThreads(api_key="sk-test", base_url=fake.base_url)
        handle = adapter.start_thread(business=self.business, customer_hash="a" * 64, transcript=self.past, timeout=10)
        if self.plan:
            fake.plan_answer(self.plan)
        for turn_id in (1, 2):
            question = Question(
                business=self.business,
                ai_thread=handle,
                text="Hi",
                transcript=self.past,
                customer_hash="a" * 64,
                turn_id=turn_id,
                timeout=10,
            )
            try:
                adapter.ask(question=question)
            except AssistantError:
                assert self.plan
        adapter.close()


TALKS = {
    "conversations": Talk(LIVE, SHOP, PAST),
    "conversations, bare": Talk(LIVE, BARE),
    "stateless": Talk(LIVE, replace(SHOP, history=History.LOCAL), PAST),
    "threads": Talk(OLD, SHOP, PAST),
    "threads, bare": Talk(OLD, BARE),
    **{f"conversations, {end}": Talk(LIVE, SHOP, plan=end) for end in ("failed", "incomplete", "refusal", "empty")},
    **{
        f"threads, {end}": Talk(OLD, SHOP, plan=end)
        for end in ("failed", "expired", "cancelled", "incomplete", "requires_action", "refusal", "empty")
    },
}


@pytest.fixture(params=list(TALKS.values()), ids=list(TALKS))
def talk(request: pytest.FixtureRequest) -> Talk:
    talk: Talk = request.param
    return talk


def test_our_requests_are_as_described(fake: RecordingFake, talk: Talk) -> None:
    talk.hold(fake)
    wrong = {
        f"{r.method} {r.path}": found
        for r in fake.requests
        if (found := violations(talk.spec, r.method, r.path, body=r.json if r.body else None))
    }
    assert wrong == {}
    assert len(fake.asked) == 2


def test_the_fakes_answers_are_as_described(fake: RecordingFake, talk: Talk) -> None:
    talk.hold(fake)
    wrong = {
        f"{q.method} {q.path}": found
        for q, a in fake.exchanges
        if a.status == 200
        and (found := answer_violations(talk.spec, q.method, q.path, status=a.status, body=_as_sent(a.body)))
    }
    assert wrong == {}


def test_a_turn_sends_what_the_provider_needs_to_know(fake: RecordingFake) -> None:
    TALKS["conversations"].hold(fake)
    created, first, second = (request.json for request in fake.requests)
    assert [item["role"] for item in created["items"]] == ["user", "assistant"]
    assert first == {
        "model": "gpt-test",
        "conversation": next(iter(fake.conversations)),
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "instructions": "Be brief.",
        "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}],
        "truncation": "auto",
        "safety_identifier": "a" * 64,
        "metadata": {"turn": "1"},
    }
    assert second == {**first, "metadata": {"turn": "2"}}


def test_a_stateless_turn_is_not_stored_and_carries_the_past(fake: RecordingFake) -> None:
    TALKS["stateless"].hold(fake)
    first = fake.requests[0].json
    assert first["store"] is False
    assert "conversation" not in first
    assert [item["content"] for item in first["input"]] == ["Do you sell tea?", "Yes.", "Hi"]
    assert fake.conversations == {}


# the check itself


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/responses", {"model": "m", "input": "x", "truncation": "always"}, "always"),
        ("/v1/responses", {"model": "m", "input": "x", "instruction": "y"}, "'instruction' was unexpected"),
        ("/v1/responses", {"model": "m", "input": [{"role": "boss", "content": "x"}]}, "$.input"),
        ("/v1/conversations", {"items": [{"role": "user", "content": "x"}] * 21}, "$.items"),
        ("/v1/conversations/conv_1/items", None, "needs a body"),
        ("/v1/nothing", {}, "describes no POST /v1/nothing"),
    ],
)
def test_a_wrong_request_is_noticed(path: str, body: Any, said: str) -> None:
    assert said in "\n".join(violations(LIVE, "POST", path, body=body))


def test_a_wrong_form_is_noticed() -> None:
    path = f"/2010-04-01/Accounts/AC{'0' * 32}/Messages.json"
    good = {"To": "whatsapp:+15550002222", "From": "whatsapp:+15550001111", "Body": "Hi", "SmartEncoded": "true"}
    assert violations("twilio_messages", "POST", path, form=good) == []
    assert "'To'" in "\n".join(violations("twilio_messages", "POST", path, form={"Body": "Hi"}))
    assert "Bodyy" in "\n".join(violations("twilio_messages", "POST", path, form={**good, "Bodyy": "x"}))
    assert "boolean" in "\n".join(violations("twilio_messages", "POST", path, form={**good, "SmartEncoded": "yes"}))


def _as_sent(body: Any) -> Any:
    return json.loads(json.dumps(body))
