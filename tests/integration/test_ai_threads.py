"""Which conversation at the AI provider a customer's message goes to: cached, known, adopted, new, or replaced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatbotctl.core.flow.ask_assistant import ask_policy
from chatbotctl.core.flow.find_thread import find_thread
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.records.message import Result
from chatbotctl.core.storage import businesses, conversations, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeConversation, FakeOpenAI
from tests.fakes.openai_wire import refusal
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import (
    BUSINESS,
    CUSTOMER,
    Vendors,
    add_business,
    answer,
    install,
    sqlite_database,
    take_in,
    work,
)

#: The customer's line and the assistant's, as many times as there are answers.
LINES_EACH = 2


@pytest.fixture
def shared(vendors: Vendors, redis_url: str, tmp_path: Path) -> Iterator[Core]:
    """An install whose cache is Redis, which others write to as well."""
    with install(vendors, redis_url=redis_url, database_url=sqlite_database(tmp_path)) as core:
        yield core


def entry(thread_id: str) -> CachedThread:
    return CachedThread(sender=CUSTOMER, receiver=BUSINESS, thread_id=thread_id)


def cached(core: Core) -> str | None:
    found = core.services.cache.get(sender=CUSTOMER, receiver=BUSINESS)
    return None if found is None else found.thread_id


def known(core: Core) -> str | None:
    with core.database.read() as tx:
        return conversations.get(tx, 1).ai_thread


def sources(core: Core) -> list[str]:
    """Where each thread was found that was asked in, as the timeline tells."""
    asked = tables.events.c.kind.in_(["ask_failed", "answered"])
    with core.database.read() as tx:
        rows = tx.execute(tables.events.select().where(asked).order_by(tables.events.c.id))
        return [row.detail["thread"] for row in rows]


def test_first_message_makes_a_thread_that_database_and_cache_remember(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site)
    answer(any_site)

    (handle,) = fake_openai.conversations
    assert known(any_site) == cached(any_site) == handle
    assert sources(any_site) == ["new"]


def test_second_message_finds_it_in_the_cache(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site)
    answer(any_site, "one")
    answer(any_site, "two")

    assert sources(any_site) == ["new", "cache"]
    (conversation,) = fake_openai.conversations.values()
    assert [text for _, text in conversation.said] == ["one", "You said: one", "two", "You said: two"]


def test_lost_cache_entry_is_put_back_from_the_database(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site)
    answer(any_site)
    any_site.services.cache.remove(keys=[entry("").key])

    answer(any_site)

    assert sources(any_site) == ["new", "database"]
    assert cached(any_site) == known(any_site)
    assert len(fake_openai.conversations) == 1


def test_cache_entry_that_contradicts_the_database_is_put_right_and_not_used(
    any_site: Core, fake_openai: FakeOpenAI
) -> None:
    add_business(any_site)
    answer(any_site)
    any_site.services.cache.put(entries=[entry("conv_of_somebody_else")])

    answer(any_site)

    assert fake_openai.asked[-1].handle == known(any_site) == cached(any_site)
    assert sources(any_site) == ["new", "database"]


def test_thread_that_lives_in_redis_alone_is_adopted(shared: Core, fake_openai: FakeOpenAI) -> None:
    """An earlier install kept its threads there only."""
    add_business(shared)
    fake_openai.conversations["conv_old"] = FakeConversation("conv_old", {})
    shared.services.cache.put(entries=[entry("conv_old")])

    answer(shared)

    assert fake_openai.asked[-1].handle == known(shared) == "conv_old"
    assert sources(shared) == ["cache"]


def test_adopted_thread_that_the_provider_does_not_know_is_replaced(shared: Core, fake_twilio: FakeTwilio) -> None:
    add_business(shared)
    shared.services.cache.put(entries=[entry("conv_long_gone")])

    assert answer(shared, "Hello").result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: Hello"]
    assert sources(shared) == ["cache", "new"]
    assert known(shared) == cached(shared) != "conv_long_gone"


def test_removed_business_leaves_its_threads_to_nobody_who_gets_its_number(site: Core, fake_openai: FakeOpenAI) -> None:
    """The cache of a server's own process still holds them: no command reaches it."""
    bakery = add_business(site)
    answer(site, "canary of the bakery")
    with site.database.write() as tx:
        businesses.remove(tx, bakery)
    add_business(site, "garage")

    answer(site, "Oil change?")

    assert fake_openai.asked[-1].history == ()


def test_number_that_moves_during_a_first_turn_takes_no_thread_along(
    shared: Core, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bakery's first turn is making its thread while its number becomes the garage's."""
    bakery, garage = add_business(shared), add_business(shared, "garage", "whatsapp:+15550002222")
    accepted = take_in(shared, "canary of the bakery")
    make = conversations.transcript

    def move_first(*args: Any, **kwargs: Any) -> object:
        monkeypatch.undo()
        with shared.database.write() as tx:
            businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550003333"})
            businesses.change(tx, garage, {"whatsapp_address": BUSINESS})
        return make(*args, **kwargs)

    monkeypatch.setattr(conversations, "transcript", move_first)
    work(shared, accepted.conversation_id)
    assert cached(shared) is None
    bakerys = known(shared)

    answer(shared, "Oil change?")

    assert fake_openai.asked[-1].history == ()
    assert fake_openai.asked[-1].handle == cached(shared) != bakerys


def test_number_cannot_move_between_the_look_at_it_and_the_writing_to_the_cache(
    any_site: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move takes the old number's entries out once it is stored: none may be written after that."""
    bakery = add_business(any_site)
    put, moved, order = any_site.services.cache.put, threading.Event(), []

    def move() -> None:
        with any_site.database.write() as tx:
            businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550003333"})
        order.append("moved")
        moved.set()

    mover = threading.Thread(target=move)

    def put_slowly(*, entries: list[CachedThread]) -> None:
        mover.start()
        # Long enough for a move that does not wait.
        moved.wait(0.5)
        put(entries=entries)
        order.append("put")

    monkeypatch.setattr(any_site.services.cache, "put", put_slowly)
    answer(any_site)
    mover.join(20)

    assert order == ["put", "moved"]


def test_thread_put_right_in_the_cache_is_not_put_back_under_a_number_that_moved(shared: Core) -> None:
    bakery = add_business(shared)
    answer(shared)
    with shared.database.write() as tx:
        businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550003333"})
    shared.services.cache.remove(keys=[entry("").key])
    accepted = take_in(shared, receiver="whatsapp:+15550003333")
    with shared.database.write() as tx:
        lease = turns.claim(tx, accepted.conversation_id, owner="test", lease_seconds=30)
        assert lease is not None
        turn = turns.open_turn(tx, lease, one_message=False)
    with shared.database.write() as tx:
        businesses.change(tx, bakery, {"whatsapp_address": BUSINESS})

    find_thread(shared.services, turn, shared.services.assistant_of(turn.business), ask_policy(shared.services))

    found = shared.services.cache.get(sender=CUSTOMER, receiver="whatsapp:+15550003333")
    assert found is None


def test_cached_thread_that_is_another_conversations_is_not_adopted(shared: Core, fake_openai: FakeOpenAI) -> None:
    """The entry outlived the number's move: Redis was out of reach when it was to be taken out."""
    bakery, garage = add_business(shared), add_business(shared, "garage", "whatsapp:+15550002222")
    answer(shared, "canary of the bakery")
    bakerys = known(shared)
    with shared.database.write() as tx:
        businesses.change(tx, bakery, {"whatsapp_address": "whatsapp:+15550003333"})
        businesses.change(tx, garage, {"whatsapp_address": BUSINESS})
    assert cached(shared) == bakerys

    answer(shared, "Oil change?")

    assert fake_openai.asked[-1].history == ()
    assert fake_openai.asked[-1].handle == cached(shared) != bakerys


def test_thread_of_a_turn_that_was_reset_meanwhile_is_not_cached(
    any_site: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(any_site)
    accepted = take_in(any_site)
    make = conversations.transcript

    def reset_first(*args: Any, **kwargs: Any) -> object:
        monkeypatch.undo()
        with any_site.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, 1))
        return make(*args, **kwargs)

    monkeypatch.setattr(conversations, "transcript", reset_first)
    work(any_site, accepted.conversation_id)

    assert cached(any_site) is known(any_site) is None


def test_new_owner_of_a_number_is_told_nothing_of_the_old_one(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site)
    answer(any_site, "canary of the old owner", external_user_id="US.OLD")
    before = known(any_site)

    answer(any_site, "Hello", external_user_id="US.NEW")

    assert fake_openai.asked[-1].history == ()
    assert known(any_site) == cached(any_site) != before


def test_after_a_reset_a_stale_cache_entry_is_not_believed(any_site: Core, fake_openai: FakeOpenAI) -> None:
    """The reset could not reach Redis."""
    add_business(any_site)
    answer(any_site, "one")
    before = known(any_site)
    with any_site.database.write() as tx:
        conversations.reset(tx, conversations.get(tx, 1))

    answer(any_site, "two")

    assert fake_openai.asked[-1].history == ()
    assert known(any_site) == cached(any_site) != before


def test_customer_whose_number_has_another_spelling_keeps_the_thread(any_site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(any_site)
    for sender in ("whatsapp:+5511987654321", "whatsapp:+551187654321"):
        answer(any_site, sender=sender)

    assert len(fake_openai.conversations) == 1


# the provider has lost it


@pytest.mark.parametrize("backend", [{}, {"backend": "threads", "assistant_id": "asst_1"}], ids=["openai", "threads"])
def test_forgotten_thread_is_replaced_by_one_that_knows_the_past(
    any_site: Core, backend: dict[str, str], fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site, **backend)
    answer(any_site, "My name is Ana.")
    before = known(any_site)
    fake_openai.forget()

    assert answer(any_site, "What is my name?").result is Result.REPLIED

    assert fake_openai.asked[-1].history == (("user", "My name is Ana."), ("assistant", "You said: My name is Ana."))
    assert known(any_site) == cached(any_site) != before
    assert sources(any_site) == ["new", "cache", "new"]
    assert fake_twilio.sent()[-1] == "You said: What is my name?"


def test_new_thread_is_seeded_with_the_last_twenty_lines(site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(site)
    for number in range(12):
        answer(site, f"question {number}")
    fake_openai.forget()

    answer(site, "the newest")

    history = fake_openai.asked[-1].history
    assert len(history) == 20
    assert history[0] == ("user", "question 2")
    assert history[-1] == ("assistant", "You said: question 11")


def test_old_assistants_thread_under_the_live_api_is_replaced_without_asking_for_it(
    site: Core, fake_openai: FakeOpenAI
) -> None:
    add_business(site)
    answer(site, "one")
    with site.database.write() as tx:
        conversations.set_ai_thread(tx, 1, "thread_from_2025")

    assert answer(site, "two").result is Result.REPLIED

    assert not any("thread_from_2025" in request.body.decode() for request in fake_openai.requests)
    assert str(known(site)).startswith("conv_")
    assert len(fake_openai.asked[-1].history) == LINES_EACH


def test_business_that_changes_its_backend_keeps_its_conversations_past(site: Core, fake_openai: FakeOpenAI) -> None:
    bakery = add_business(site, backend="chat")
    answer(site, "one")
    with site.database.write() as tx:
        businesses.change(tx, bakery, {"backend": "openai"})

    answer(site, "two")

    assert fake_openai.asked[-1].api == "responses"
    assert fake_openai.asked[-1].history == (("user", "one"), ("assistant", "You said: one"))


def test_thread_is_replaced_once_and_not_for_ever(site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    gone = refusal(404, "Conversation with id 'conv_x' not found.")
    fake_openai.plan("/v1/responses", times=99, response=gone)

    became = answer(site)

    assert (became.result, became.code) == (Result.FAILED, "thread_gone")
    assert len(fake_openai.seen("/v1/conversations", "POST")) == 2
    assert fake_twilio.sent() == [site.settings.replies.apology]


# what a backend without a memory is given


@pytest.mark.parametrize("backend", [{"backend": "chat"}, {"history": "local"}], ids=["chat", "openai-local"])
def test_backend_without_a_memory_is_given_the_last_exchanges_as_set(
    vendors: Vendors, tmp_path: Path, backend: dict[str, str], fake_openai: FakeOpenAI
) -> None:
    with install(vendors, flags={("openai", "history_turns"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core, **backend)
        for number in range(4):
            answer(core, f"question {number}")

    assert fake_openai.asked[-1].history == (
        ("user", "question 1"),
        ("assistant", "You said: question 1"),
        ("user", "question 2"),
        ("assistant", "You said: question 2"),
    )
    assert fake_openai.conversations == {}


def test_provider_learns_of_the_customer_a_hash_and_never_the_number(site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(site)
    add_business(site, "garage", "whatsapp:+15550002222")
    answer(site)
    answer(site, receiver="whatsapp:+15550002222")

    asked = fake_openai.seen("/v1/responses")
    assert not any(b"5552220000" in request.body for request in fake_openai.requests)
    hashes = [request.json["safety_identifier"] for request in asked]
    assert len(set(hashes)) == 2, "nor can two businesses' customers be told to be the same"


def test_a_thread_that_cannot_be_made_for_the_moment_is_tried_again(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    slow = refusal(429, "slow", code="rate_limit_exceeded")
    fake_openai.plan("/v1/conversations", response=Response(429, slow.body, {"Retry-After": "0"}))
    with install(vendors, flags={("openai", "attempts"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)

        assert answer(core).result is Result.REPLIED
