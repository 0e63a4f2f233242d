"""Any text that the edge lets through is the same in both stores after accept, store and history."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.turn import Failure
from chatbotctl.core.storage import conversations, inbox, outbox, slack_posts, turns
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import inbound_messages
from tests import installs
from tests.contract import store
from tests.installs import CUSTOMER, add_business, install, message, take_in

#: No NUL and no lone surrogates: the webhook refuses those.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=1600)
HOSTILE = {
    "bidi": "\u202egpj.exe\u202c \u2066x\u2069",
    "ansi": "\x1b[31mred\x1b[0m \x07\x9b",
    "combining": "a" + "\u0301" * 1599,
    "emoji": "👩‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "quotes": "'; DROP TABLE businesses; -- %s %(x)s :name ? \\ {} {0}",
    "blank": " \t\r\n\u2028\u2029\u00a0\ufeff ",
    "noncharacter": "\uffff\ufffe\U0010ffff",
}


def test_text_comes_back_letter_for_letter(database_url: str) -> None:
    with install(database_url=database_url) as core:
        add_business(core, backend="knowledge")

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(body=TEXTS, name=st.none() | TEXTS)
        def round_trip(body: str, name: str | None) -> None:
            accepted = take_in(core, body, profile_name=name)
            with core.database.read() as tx:
                (entry,) = conversations.history(tx, accepted.conversation_id, last=1)
                conversation = conversations.get(tx, accepted.conversation_id)
            assert entry.body == body
            assert name is None or conversation.profile_name == name

        round_trip()


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_comes_back_letter_for_letter(database: Database, body: str) -> None:
    bakery = add_business(database)
    taken = store.take(database, bakery, message(body, profile_name=body, parameters={"Body": body, body: "x"}))

    with database.read() as tx:
        assert inbox.get(tx, taken.inbound_id).body == body
        assert conversations.find(tx, bakery, CUSTOMER).profile_name == body
    (row,) = store.rows(database, inbound_messages)
    assert row.parameters == {"Body": body, body: "x"}


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\udfff\ud83d\0"], ids=["nul", "surrogate", "both"])
def test_what_no_store_can_hold_of_a_models_words_is_replaced_and_the_rest_is_kept(
    database: Database, text: str
) -> None:
    """A model's answer comes through no edge of ours; it must not cost the customer the reply."""
    bakery = add_business(database)
    turn = store.open_turn(database, store.take(database, bakery).conversation_id)
    with database.write() as tx:
        turns.store_answer(tx, turn, Answer(text=text, needs_human=text), text)
        turns.store_own_line(tx, turn, Failure(code="x", message=text))
        outbox.add_reply(tx, turn, [text], Author.ASSISTANT)
        inbox.set_translation(tx, turn.messages[0].id, text, "en")
        slack_posts.owe(
            tx, conversation_id=turn.conversation.id, lane="c1", kind="reply", title=text, text=text, translation=text
        )

    with database.read() as tx:
        (part,) = outbox.parts(tx, turn.id)
    assert part.body == "".join("\ufffd" if char in "\0\ud800\udfff\ud83d" else char for char in text)


def test_copy_of_a_sqlite_store_is_whole(tmp_path: Path) -> None:
    """The tests' own short cut: a copied database must be a migrated one."""
    database = Database(installs.sqlite_database(tmp_path))
    assert add_business(database).name == "bakery"
    database.close()
