"""The port KnowledgeStore over OpenAI's vector stores: what an operator's knowledge files meet at the provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chatbotctl.core.adapters.openai_vector_stores import OpenAIVectorStores
from chatbotctl.core.errors import AssistantError, AssistantNotUsable
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI

KEY = "sk-canary-5f1c0a9e77"
FAQ = "# Opening hours\n\nNine to five. ☕\r\n--boundary\r\n".encode()


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(keys={KEY}) as fake:
        yield fake


@pytest.fixture
def store(fake: FakeOpenAI) -> Iterator[OpenAIVectorStores]:
    store = OpenAIVectorStores(api_key=KEY, base_url=fake.base_url, indexing_timeout=5.0)
    yield store
    store.close()


def test_a_business_gets_a_store_and_keeps_it(fake: FakeOpenAI, store: OpenAIVectorStores) -> None:
    first = store.ensure_store(name="shop", store_id=None)
    assert store.ensure_store(name="shop", store_id=first) == first
    assert [(found.id, found.name) for found in fake.vector_stores.stores.values()] == [(first, "shop")]


@pytest.mark.parametrize("lost", ["deleted", "expired"])
def test_a_store_that_the_provider_lost_is_made_anew(fake: FakeOpenAI, store: OpenAIVectorStores, lost: str) -> None:
    first = store.ensure_store(name="shop", store_id=None)
    if lost == "deleted":
        del fake.vector_stores.stores[first]
    else:
        fake.vector_stores.stores[first].status = "expired"
    second = store.ensure_store(name="shop", store_id=first)
    assert second != first
    assert fake.vector_stores.stores[second].name == "shop"


def test_an_outage_makes_no_second_store(fake: FakeOpenAI, store: OpenAIVectorStores) -> None:
    first = store.ensure_store(name="shop", store_id=None)
    fake.plan("/vector_stores/", response=Response(500, {}))
    with pytest.raises(AssistantError) as caught:
        store.ensure_store(name="shop", store_id=first)
    assert caught.value.retryable
    assert list(fake.vector_stores.stores) == [first]


@pytest.mark.parametrize("polls", [0, 2])
def test_an_uploaded_file_is_there_byte_for_byte_once_upload_returns(
    fake: FakeOpenAI, store: OpenAIVectorStores, polls: int
) -> None:
    fake.vector_stores.polls = polls
    store_id = store.ensure_store(name="shop", store_id=None)
    file_id = store.upload(store_id=store_id, filename="faq.md", content=FAQ)
    file = fake.vector_stores.files[file_id]
    assert (file.filename, file.purpose, file.content) == ("faq.md", "assistants", FAQ)
    assert fake.vector_stores.stores[store_id].files[file_id] <= 0


@pytest.mark.parametrize(
    ("filename", "named"), [("faq.markdown", "faq.md"), ("a/b.MARKDOWN", "a/b.md"), ("a.b.txt", "a.b.txt")]
)
def test_markdown_by_any_name_is_indexed(
    fake: FakeOpenAI, store: OpenAIVectorStores, filename: str, named: str
) -> None:
    store_id = store.ensure_store(name="shop", store_id=None)
    file_id = store.upload(store_id=store_id, filename=filename, content=FAQ)
    assert fake.vector_stores.files[file_id].filename == named


def test_a_removed_file_is_gone_from_store_and_account(fake: FakeOpenAI, store: OpenAIVectorStores) -> None:
    store_id = store.ensure_store(name="shop", store_id=None)
    file_id = store.upload(store_id=store_id, filename="faq.md", content=FAQ)
    store.remove(store_id=store_id, file_id=file_id)
    assert fake.vector_stores.files == {}
    assert fake.vector_stores.stores[store_id].files == {}
    store.remove(store_id=store_id, file_id=file_id)  # gone already: fine
    store.remove(store_id="vs_gone", file_id=file_id)


@pytest.mark.parametrize(
    ("code", "retryable"), [("unsupported_file", False), ("invalid_file", False), ("server_error", True)]
)
def test_a_file_that_cannot_be_indexed_leaves_nothing_behind(
    fake: FakeOpenAI, store: OpenAIVectorStores, code: str, retryable: bool
) -> None:
    fake.vector_stores.indexing_error = code
    store_id = store.ensure_store(name="shop", store_id=None)
    with pytest.raises(AssistantError) as caught:
        store.upload(store_id=store_id, filename="faq.md", content=FAQ)
    assert (caught.value.reason, caught.value.retryable) == (code, retryable)
    assert fake.vector_stores.files == {}
    assert fake.vector_stores.stores[store_id].files == {}


def test_indexing_that_never_ends_is_given_up(fake: FakeOpenAI) -> None:
    fake.vector_stores.polls = 10_000
    store = OpenAIVectorStores(api_key=KEY, base_url=fake.base_url, indexing_timeout=0.3)
    store_id = store.ensure_store(name="shop", store_id=None)
    with pytest.raises(AssistantError) as caught:
        store.upload(store_id=store_id, filename="faq.md", content=FAQ)
    store.close()
    assert (caught.value.reason, caught.value.retryable) == ("timeout", True)
    assert fake.vector_stores.files == {}


def test_a_file_the_provider_refuses_is_told(store: OpenAIVectorStores) -> None:
    store_id = store.ensure_store(name="shop", store_id=None)
    with pytest.raises(AssistantError) as caught:
        store.upload(store_id=store_id, filename="empty.md", content=b"")
    assert (caught.value.reason, caught.value.retryable) == ("invalid_file", False)


def test_a_store_that_is_gone_takes_no_file(fake: FakeOpenAI, store: OpenAIVectorStores) -> None:
    with pytest.raises(AssistantError) as caught:
        store.upload(store_id="vs_gone", filename="faq.md", content=FAQ)
    assert not caught.value.retryable
    assert fake.vector_stores.files == {}


def test_a_wrong_key_is_told_as_that(fake: FakeOpenAI) -> None:
    store = OpenAIVectorStores(api_key="sk-wrong-canary-4410", base_url=fake.base_url)
    with pytest.raises(AssistantError) as caught:
        store.ensure_store(name="shop", store_id=None)
    store.close()
    assert caught.value.reason == "invalid_api_key"
    assert "canary" not in str(caught.value)


def test_without_a_key_it_is_told_what_to_set() -> None:
    with pytest.raises(AssistantNotUsable) as caught:
        OpenAIVectorStores(api_key=None, base_url=None).ensure_store(name="shop", store_id=None)
    assert caught.value.hint is not None
