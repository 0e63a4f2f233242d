"""A number that passes to somebody else, on both stores: the new one's conversation knows nothing of the old one's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbotctl.core.errors import LeaseLost
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.storage import conversations, inbox, outbox, outcomes
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import events, outbound_messages
from tests.contract import store
from tests.contract.store import take
from tests.installs import add_business


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def test_new_owner_of_a_number_begins_anew(database: Database, bakery: Business) -> None:
    old = take(database, bakery, external_user_id="US.OLD", profile_name="Old")
    store.finish(database, store.open_turn(database, old.conversation_id))
    with database.write() as tx:
        conversations.set_ai_thread(tx, old.conversation_id, "conv_old")
        conversations.set_language(tx, old.conversation_id, "de")

    new = take(database, bakery, external_user_id="US.NEW")
    take(database, bakery, external_user_id="US.NEW")

    assert new.conversation_id == old.conversation_id
    with database.read() as tx:
        now_is = conversations.get(tx, new.conversation_id)
        history = conversations.history(tx, new.conversation_id, last=None)
        transcript = conversations.transcript(tx, now_is, before_seq=3, messages=10, translated=False)
    assert (now_is.ai_thread, now_is.profile_name, now_is.language) == (None, None, None)
    assert (now_is.reset_seq, now_is.epoch, now_is.last_seq) == (1, 1, 3)
    assert len(history) == 3, "operators still see what was said"
    assert len(transcript) == 1, "the assistant does not"
    told = [(row.kind, row.detail) for row in store.rows(database, events) if row.kind != "received"]
    assert told == [("turn_opened", {"upto_seq": 1}), ("new_owner", {"seq": 1})]


def test_old_owner_who_hides_the_number_does_not_join_the_new_one(database: Database, bakery: Business) -> None:
    take(database, bakery, external_user_id="US.OLD")
    new = take(database, bakery, external_user_id="US.NEW")

    assert take(database, bakery, sender="whatsapp:US.OLD").conversation_id != new.conversation_id
    assert take(database, bakery, sender="whatsapp:US.NEW").conversation_id == new.conversation_id


def test_new_owner_gets_no_answer_to_what_the_old_one_asked(database: Database, bakery: Business) -> None:
    """The old owner's turn is under way, and another message of theirs waits."""
    old = take(database, bakery, external_user_id="US.OLD", sid="SMold1")
    turn = store.open_turn(database, old.conversation_id)
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["For the old owner."], Author.ASSISTANT)
    take(database, bakery, external_user_id="US.OLD", sid="SMold2")

    take(database, bakery, external_user_id="US.NEW", body="I am new", sid="SMnew")

    with pytest.raises(LeaseLost):
        store.finish(database, turn)
    assert [row.state for row in store.rows(database, outbound_messages)] == ["withdrawn"]
    answered = store.open_turn(database, old.conversation_id)
    assert [one.body for one in answered.messages] == ["I am new"]
    store.finish(database, answered)
    with database.read() as tx:
        became = {sid: outcomes.of_message(tx, sid) for sid in ("SMold1", "SMold2", "SMnew")}
    assert {sid: one.result.value for sid, one in became.items() if one} == {
        "SMold1": "withdrawn",
        "SMold2": "withdrawn",
        "SMnew": "replied",
    }


def test_messages_of_a_new_owner_at_once_begin_anew_once(database: Database, bakery: Business) -> None:
    old = take(database, bakery, external_user_id="US.OLD")
    together = threading.Barrier(8)

    def first(_: int) -> inbox.Taken:
        together.wait()
        return take(database, bakery, external_user_id="US.NEW")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(first, range(8)))

    with database.read() as tx:
        now_is = conversations.get(tx, old.conversation_id)
    assert (now_is.reset_seq, now_is.last_seq, now_is.epoch) == (1, 9, 1)


def test_message_without_an_id_is_no_new_owner(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, external_user_id="US.OLD", profile_name="Ana")
    take(database, bakery)

    with database.read() as tx:
        assert conversations.get(tx, taken.conversation_id).profile_name == "Ana"
