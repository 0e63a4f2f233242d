"""The fake OpenAI refuses what the real one refuses: a test that passes against it means something."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes.openai_server import FakeOpenAI


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(keys={"sk-test"}) as fake:
        yield fake


@pytest.fixture
def client(fake: FakeOpenAI) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=fake.base_url, max_retries=0, timeout=10) as client:
        yield client


def ask(client: openai.OpenAI, **options: Any) -> Any:
    return client.responses.create(**{"model": "gpt-test", "input": "Hi", **options})


def test_a_wrong_key(fake: FakeOpenAI) -> None:
    with (
        openai.OpenAI(api_key="sk-wrong", base_url=fake.base_url, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="Incorrect API key"),
    ):
        ask(client)


def test_an_unknown_conversation(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="conv_none"):
        ask(client, conversation="conv_none")


def test_a_deleted_conversation(client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    assert client.conversations.retrieve(conversation.id).id == conversation.id
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        ask(client, conversation=conversation.id)


def test_a_conversation_seeded_with_more_than_twenty_items(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum length 20"):
        client.conversations.create(items=[{"role": "user", "content": "x"}] * 21)


def test_a_second_response_on_a_busy_conversation(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    answering, go_on = threading.Event(), threading.Event()

    def slowly(text: str) -> str:
        answering.set()
        go_on.wait(10)
        return text

    fake.reply = slowly
    first = threading.Thread(target=ask, args=(client,), kwargs={"conversation": conversation.id})
    first.start()
    answering.wait(10)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, conversation=conversation.id)
    go_on.set()
    first.join()
    assert caught.value.code == "conversation_locked"
    assert ask(client, conversation=conversation.id).output_text == "Hi"


def test_a_missing_or_unknown_model(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Missing required parameter: 'model'"):
        ask(client, model="")
    fake.unknown_models.add("gpt-gone")
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-gone")
    assert caught.value.code == "model_not_found"


def test_a_search_in_an_unknown_vector_store(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="vs_none"):
        ask(client, tools=[{"type": "file_search", "vector_store_ids": ["vs_none"]}])


def test_threads_without_the_beta_header(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="OpenAI-Beta"):
        client.post("/threads", body={}, cast_to=object)


def test_an_unknown_path(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.post("/moderations", body={}, cast_to=object)


def test_what_was_said_can_be_read_back_newest_first(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "Hello"}])
    ask(client, conversation=conversation.id)
    items: list[Any] = client.conversations.items.list(conversation.id, limit=2).data
    assert [(item.role, item.content[0].text) for item in items] == [("assistant", "You said: Hi"), ("user", "Hi")]
    assert fake.conversations[conversation.id].said[0] == ("user", "Hello")


def test_an_answer_whose_reader_went_away_is_kept_all_the_same(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    fake.plan("/responses", cut=True, accept=True)
    with pytest.raises(openai.APIConnectionError):
        ask(client, conversation=conversation.id)
    assert fake.conversations[conversation.id].said == (("user", "Hi"), ("assistant", "You said: Hi"))
