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


@pytest.mark.parametrize("path", ["/threads", "/threads/thread_1/messages", "/threads/thread_1/runs"])
def test_threads_without_the_beta_header(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.BadRequestError, match="OpenAI-Beta"):
        client.post(path, body={}, cast_to=object)


BETA: Any = {"headers": {"OpenAI-Beta": "assistants=v2"}}


@pytest.mark.parametrize("message", [{"role": "user", "content": ""}, {"role": "user", "content": []}])
def test_a_message_that_says_nothing(client: openai.OpenAI, message: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="non-empty"):
        client.post("/threads", body={"messages": [message]}, cast_to=object, options=BETA)
    thread: Any = client.post("/threads", body={}, cast_to=object, options=BETA)
    with pytest.raises(openai.BadRequestError, match="non-empty"):
        client.post(f"/threads/{thread['id']}/messages", body=message, cast_to=object, options=BETA)


def test_a_run_of_no_assistant(fake: FakeOpenAI, client: openai.OpenAI) -> None:
    thread: Any = client.post("/threads", body={}, cast_to=object, options=BETA)
    runs = f"/threads/{thread['id']}/runs"
    with pytest.raises(openai.BadRequestError, match="assistant_id"):
        client.post(runs, body={}, cast_to=object, options=BETA)
    fake.threads.assistants = {"asst_1"}
    with pytest.raises(openai.NotFoundError, match="asst_none"):
        client.post(runs, body={"assistant_id": "asst_none"}, cast_to=object, options=BETA)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/conversations", {"items": [{"role": "boss", "content": "x"}]}),
        ("/responses", {"model": "gpt-test", "input": [{"role": "boss", "content": "x"}]}),
        ("/chat/completions", {"model": "gpt-test", "messages": [{"role": "boss", "content": "x"}]}),
        ("/threads", {"messages": [{"role": "system", "content": "x"}]}),
    ],
)
def test_a_speaker_that_is_none(client: openai.OpenAI, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="Supported values are"):
        client.post(path, body=body, cast_to=object, options=BETA)


def test_a_message_without_its_words(client: openai.OpenAI) -> None:
    body = {"model": "gpt-test", "messages": [{"role": "user"}]}
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\]\.content"):
        client.post("/chat/completions", body=body, cast_to=object)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({str(number): "x" for number in range(17)}, "object_above_max_properties"),
        ({"name": "x" * 513}, "string_above_max_length"),
        ({"n" * 65: "x"}, "string_above_max_length"),
        ({"turn": 7}, "invalid_type"),
    ],
)
def test_metadata_that_does_not_fit(client: openai.OpenAI, metadata: dict[str, Any], code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.conversations.create(metadata=metadata)
    assert caught.value.code == code


def test_a_safety_identifier_that_is_too_long(client: openai.OpenAI) -> None:
    assert ask(client, safety_identifier="a" * 64).output_text
    with pytest.raises(openai.BadRequestError, match="safety_identifier"):
        ask(client, safety_identifier="a" * 65)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]"])
def test_a_body_that_is_no_json_object(client: openai.OpenAI, body: bytes) -> None:
    with pytest.raises(openai.BadRequestError):
        client.post(
            "/responses", content=body, cast_to=object, options={"headers": {"Content-Type": "application/json"}}
        )


def test_a_page_that_is_too_long(client: openai.OpenAI) -> None:
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.conversations.items.list(conversation.id, limit=101)


@pytest.mark.parametrize("filename", ["faq.markdown", "faq", "faq.csv"])
def test_a_file_that_cannot_be_searched(fake: FakeOpenAI, client: openai.OpenAI, filename: str) -> None:
    file = client.files.create(file=(filename, b"x"), purpose="assistants")
    store = fake.vector_stores.add("vs_1")
    with pytest.raises(openai.BadRequestError, match="not supported for retrieval"):
        client.vector_stores.files.create(store.id, file_id=file.id)


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
