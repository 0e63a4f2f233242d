"""The port Assistant: one suite that every backend passes, and one for all backends that ask a server.

A new backend joins by adding a Candidate to CANDIDATES; if it asks a server, FakeOpenAI must be able to be that server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from chatbotctl.core.adapters.knowledge_base import KnowledgeBase
from chatbotctl.core.adapters.openai_chat import OpenAIChat
from chatbotctl.core.adapters.openai_responses import OpenAIResponses
from chatbotctl.core.adapters.openai_threads import OpenAIThreads
from chatbotctl.core.errors import AssistantError, AssistantNotUsable, ThreadGone
from chatbotctl.core.ports import Assistant
from chatbotctl.core.records.assistant import Question
from chatbotctl.core.records.business import Backend, Business, History
from chatbotctl.core.records.conversation import Author, Line
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI

KEY = "sk-canary-5f1c0a9e77"
SHOP = Business(id=1, name="shop", whatsapp_address="whatsapp:+15550001111", instructions="Be brief.")
PAST = (
    Line(author=Author.CUSTOMER, text="Do you sell tea?"),
    Line(author=Author.ASSISTANT, text="Yes, green and black."),
    Line(author=Author.OPERATOR, text="And oolong since today."),
    Line(author=Author.SYSTEM, text="   "),
)
SEEN = (("user", "Do you sell tea?"), ("assistant", "Yes, green and black."), ("assistant", "And oolong since today."))


@dataclass(frozen=True)
class Candidate:
    """A backend under test: how to make it, a business that uses it, and a question it can answer."""

    name: str
    build: Callable[[FakeOpenAI], Assistant]
    business: Business
    question: str = "When do you open?"
    #: A part of the answer to `question`.
    expected: str = "You said: When do you open?"
    #: Whether it asks a server, so that the second half of the suite holds for it too.
    asks_a_server: bool = True


def _responses(fake: FakeOpenAI) -> Assistant:
    return OpenAIResponses(api_key=KEY, base_url=fake.base_url, default_model="gpt-test")


def _chat(fake: FakeOpenAI) -> Assistant:
    return OpenAIChat(api_key=KEY, base_url=fake.base_url, default_model="gpt-test")


def _threads(fake: FakeOpenAI) -> Assistant:
    return OpenAIThreads(api_key=KEY, base_url=fake.base_url)


def _knowledge(_: FakeOpenAI) -> Assistant:
    return KnowledgeBase(
        files_of=lambda _: [("faq.md", "## Opening hours\nWe open at nine, every day.")], version_of=lambda _: "1"
    )


CANDIDATES = [
    Candidate("openai", _responses, SHOP),
    Candidate("openai-local", _responses, replace(SHOP, history=History.LOCAL)),
    Candidate("chat", _chat, replace(SHOP, backend=Backend.CHAT)),
    Candidate("threads", _threads, replace(SHOP, backend=Backend.THREADS, assistant_id="asst_1")),
    Candidate(
        "knowledge",
        _knowledge,
        replace(SHOP, backend=Backend.KNOWLEDGE),
        question="What are your opening hours?",
        expected="We open at nine",
        asks_a_server=False,
    ),
]


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(keys={KEY}) as fake:
        fake.threads.polls = 1
        yield fake


@dataclass
class Desk:
    """An assistant with its business, asked in few words."""

    assistant: Assistant
    business: Business
    question: str
    expected: str

    def start(self, *, past: tuple[Line, ...] = (), timeout: float = 10.0) -> str:
        return self.assistant.start_thread(
            business=self.business, customer_hash="c0ffee", transcript=past, timeout=timeout
        )

    def ask(
        self, handle: str, text: str | None = None, *, past: tuple[Line, ...] = (), timeout: float = 10.0
    ) -> Question:
        return Question(
            business=self.business,
            ai_thread=handle,
            text=text or self.question,
            transcript=past,
            customer_hash="c0ffee",
            turn_id=7,
            timeout=timeout,
        )

    def answer(
        self, handle: str, text: str | None = None, *, past: tuple[Line, ...] = (), timeout: float = 10.0
    ) -> str:
        return self.assistant.ask(question=self.ask(handle, text, past=past, timeout=timeout)).text


def _desk(candidate: Candidate, fake: FakeOpenAI) -> Iterator[Desk]:
    assistant = candidate.build(fake)
    yield Desk(assistant, candidate.business, candidate.question, candidate.expected)
    close = getattr(assistant, "close", None)
    if close is not None:
        close()


@pytest.fixture(params=CANDIDATES, ids=lambda candidate: candidate.name)
def desk(request: pytest.FixtureRequest, fake: FakeOpenAI) -> Iterator[Desk]:
    yield from _desk(request.param, fake)


@pytest.fixture(params=[c for c in CANDIDATES if c.asks_a_server], ids=lambda candidate: candidate.name)
def served(request: pytest.FixtureRequest, fake: FakeOpenAI) -> Iterator[Desk]:
    yield from _desk(request.param, fake)


# every backend


def test_a_business_that_could_be_answered_for_passes_the_check_and_nobody_is_asked(
    desk: Desk, fake: FakeOpenAI
) -> None:
    desk.assistant.check(business=desk.business)
    assert fake.requests == []


def test_a_customer_gets_an_answer(desk: Desk) -> None:
    assert desk.expected in desk.answer(desk.start())


def test_an_answer_has_no_blank_edges(desk: Desk, fake: FakeOpenAI) -> None:
    fake.reply = lambda text: f"\n\n  You said: {text}\n "
    text = desk.answer(desk.start())
    assert text == text.strip() != ""


def test_each_conversation_has_a_handle_of_its_own(desk: Desk) -> None:
    handles = {desk.start(past=PAST) for _ in range(3)}
    assert len(handles) == 3
    assert all(0 < len(handle) <= 120 for handle in handles)


def test_a_conversation_goes_on_over_several_questions(desk: Desk) -> None:
    handle = desk.start()
    assert desk.expected in desk.answer(handle)
    assert desk.expected in desk.answer(handle)


@pytest.mark.parametrize("handle", ["some_others_handle", ""])
def test_another_backends_handle_is_gone(desk: Desk, fake: FakeOpenAI, handle: str) -> None:
    with pytest.raises(ThreadGone):
        desk.answer(handle)
    assert fake.requests == []


def test_many_customers_are_answered_at_once(desk: Desk, fake: FakeOpenAI) -> None:
    def serve(number: int) -> bool:
        return desk.expected in desk.answer(desk.start())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(serve, range(16)))


# every backend that asks a server


def test_the_model_gets_the_businesss_instructions_with_every_question(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    served.answer(handle, "one")
    served.answer(handle, "two")
    assert [(asked.text, asked.instructions) for asked in fake.asked] == [("one", "Be brief."), ("two", "Be brief.")]


def test_a_business_without_instructions_sends_none(served: Desk, fake: FakeOpenAI) -> None:
    served.business = replace(served.business, instructions=" \n")
    served.answer(served.start())
    assert fake.asked[0].instructions is None


def test_the_businesss_own_model_wins(served: Desk, fake: FakeOpenAI) -> None:
    served.business = replace(served.business, model="gpt-own")
    served.answer(served.start())
    assert fake.asked[0].model == "gpt-own"


def test_the_model_knows_the_past_of_a_new_conversation(served: Desk, fake: FakeOpenAI) -> None:
    served.answer(served.start(past=PAST), "How much?", past=PAST)
    assert fake.asked[0].text == "How much?"
    assert fake.asked[0].history == SEEN


def test_the_model_knows_what_was_said_since(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    first = served.answer(handle, "one")
    said = (Line(author=Author.CUSTOMER, text="one"), Line(author=Author.ASSISTANT, text=first))
    served.answer(handle, "two", past=said)
    assert fake.asked[1].history == (("user", "one"), ("assistant", "You said: one"))


def test_a_long_past_is_cut_to_its_last_twenty_lines(served: Desk, fake: FakeOpenAI) -> None:
    past = tuple(Line(author=Author.CUSTOMER, text=f"line {number}") for number in range(30))
    served.answer(served.start(past=past), past=past[-20:])
    assert [text for _, text in fake.asked[0].history] == [f"line {number}" for number in range(10, 30)]


def test_any_text_reaches_the_model_unchanged(served: Desk, fake: FakeOpenAI) -> None:
    text = 'é 👩‍👩‍👧 "quoted" \\ {"role": "system"} \x1b[31m \u202e'
    served.answer(served.start(), text)
    assert fake.asked[0].text == text


def test_text_that_cannot_be_sent_is_an_error_like_any_other(served: Desk) -> None:
    handle = served.start()
    with pytest.raises(AssistantError) as caught:
        served.answer(handle, "half an emoji: \ud83d")
    assert (caught.value.reason, caught.value.retryable) == ("unsendable", False)


def test_tokens_and_ids_are_recorded(served: Desk) -> None:
    answer = served.assistant.ask(question=served.ask(served.start()))
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (21, 7, 28)
    assert answer.response_id
    assert answer.model == "gpt-test"
    assert answer.needs_human is None


@pytest.mark.parametrize(
    ("kind", "reason", "retryable"),
    [("refusal", "refusal", False), ("empty", "empty", True), ("junk", "unreadable", True)],
)
def test_an_answer_that_is_none_is_an_error(
    served: Desk, fake: FakeOpenAI, kind: str, reason: str, retryable: bool
) -> None:
    handle = served.start()
    fake.plan_answer(kind)
    with pytest.raises(AssistantError) as caught:
        served.answer(handle)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


def test_half_an_answer_is_never_sent(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    fake.plan_answer("incomplete")
    with pytest.raises(AssistantError, match="cut short"):
        served.answer(handle)


def test_blank_text_counts_as_no_answer(served: Desk, fake: FakeOpenAI) -> None:
    fake.reply = lambda _: " \n\t "
    with pytest.raises(AssistantError) as caught:
        served.answer(served.start())
    assert caught.value.reason == "empty"


def test_a_failure_is_asked_once_only(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    before = len(fake.requests)
    fake.plan(method="POST", times=9, response=Response(500, {"error": {"message": "oops", "type": "server_error"}}))
    with pytest.raises(AssistantError) as caught:
        served.answer(handle)
    assert caught.value.retryable
    assert len(fake.requests) == before + 1


def test_a_model_that_thinks_too_long_ends_the_wait(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    fake.thinking = 5.0
    with pytest.raises(AssistantError) as caught:
        served.answer(handle, timeout=0.3)
    assert (caught.value.reason, caught.value.retryable, caught.value.unknown_outcome) == ("timeout", True, True)


def test_after_a_failure_the_next_question_is_answered(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    fake.plan(method="POST", cut=True)
    with pytest.raises(AssistantError) as caught:
        served.answer(handle)
    assert (caught.value.reason, caught.value.retryable) == ("connection", True)
    assert served.expected in served.answer(handle)


def test_a_wrong_key_is_told_as_that(served: Desk, fake: FakeOpenAI) -> None:
    handle = served.start()
    fake.keys = {"sk-another"}
    with pytest.raises(AssistantError) as caught:
        served.answer(handle)
    assert not caught.value.retryable
    assert caught.value.reason == "invalid_api_key"
    assert caught.value.hint is not None


def test_no_key_and_no_server_is_told_as_what_to_set() -> None:
    assistants: list[Assistant] = [
        OpenAIResponses(api_key=None, base_url=None, default_model="gpt-test"),
        OpenAIChat(api_key=" ", base_url=None, default_model="gpt-test"),
        OpenAIThreads(api_key=None, base_url=None),
    ]
    business = replace(SHOP, history=History.LOCAL, assistant_id="asst_1")
    for assistant, handle in zip(assistants, ["local_1", "local_1", "thread_1"], strict=True):
        with pytest.raises(AssistantNotUsable) as checked:
            assistant.check(business=business)
        with pytest.raises(AssistantNotUsable) as asked:
            Desk(assistant, business, "Hi", "").answer(handle)
        assert (asked.value.message, asked.value.hint) == (checked.value.message, checked.value.hint)
        assert asked.value.hint is not None


@pytest.mark.parametrize("key", ["sk-canary\n5f1c", "sk-canärý"])
def test_a_key_that_cannot_be_sent_is_not_shown(fake: FakeOpenAI, key: str) -> None:
    chat = OpenAIChat(api_key=key, base_url=fake.base_url, default_model="gpt-test")
    with pytest.raises(AssistantNotUsable) as caught:
        Desk(chat, SHOP, "Hi", "").answer("local_1")
    assert "canar" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:11434/v1", "ftp://127.0.0.1/v1", "http://", "http://[::1/v1"])
def test_a_base_url_that_is_none_is_told(url: str) -> None:
    chat = OpenAIChat(api_key=None, base_url=url, default_model="gpt-test")
    with pytest.raises(AssistantNotUsable, match="base URL"):
        Desk(chat, SHOP, "Hi", "").answer("local_1")


def test_without_a_model_nothing_is_asked(fake: FakeOpenAI) -> None:
    for build in (OpenAIResponses, OpenAIChat):
        assistant = build(api_key=KEY, base_url=fake.base_url, default_model=None)
        with pytest.raises(AssistantNotUsable, match="model"):
            Desk(assistant, replace(SHOP, history=History.LOCAL), "Hi", "").answer("local_1")
    assert fake.requests == []


def test_servers_without_keys_are_asked_without_the_environments_key(
    fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    fake.keys = None
    chat = OpenAIChat(api_key=None, base_url=fake.base_url, default_model="llama")
    Desk(chat, SHOP, "Hi", "").answer("local_1")
    chat.close()
    assert "sk-of-somebody-else" not in str(fake.requests)


def test_the_client_is_made_once_however_many_threads_come_first(fake: FakeOpenAI) -> None:
    chat = OpenAIChat(api_key=KEY, base_url=fake.base_url, default_model="gpt-test")
    barrier = threading.Barrier(8)

    def first(_: int) -> int:
        barrier.wait()
        return id(chat._client.get())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first, range(8)))) == 1
    chat.close()
