"""Conversations on both stores: found by any spelling, listed, reset, and read back as transcript and as history."""

from __future__ import annotations

from typing import Any

import pytest

from chatbotctl.core.errors import ConversationNotFound
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author, Conversation, HeldBy
from chatbotctl.core.records.turn import PartState, SentMessage, Turn, TurnState
from chatbotctl.core.storage import conversations, outbox
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from tests.contract.store import finish, open_turn, take
from tests.installs import BUSINESS, CUSTOMER, add_business


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def get(database: Database, conversation_id: int) -> Conversation:
    with database.read() as tx:
        return conversations.get(tx, conversation_id)


def reply(database: Database, turn: Turn, *bodies: str, author: Author = Author.ASSISTANT) -> None:
    """Send a turn's reply and end it."""
    with database.write() as tx:
        outbox.add_reply(tx, turn, bodies, author)
        for part in outbox.parts(tx, turn.id):
            outbox.start_sending(tx, part, epoch=turn.epoch)
            outbox.sent(tx, turn, part, SentMessage(sid=f"SMout{part.id}", status="queued"))
    finish(database, turn)


def exchange(database: Database, business: Business, asked: str, *said: str, **fields: Any) -> int:
    """One message and its reply; returns the conversation."""
    conversation_id = take(database, business, body=asked, **fields).conversation_id
    reply(database, open_turn(database, conversation_id), *said)
    return conversation_id


def transcript(
    database: Database, conversation_id: int, *, messages: int = 10, translated: bool = False
) -> list[tuple[str, str]]:
    """What an assistant would be given with the customer's next message."""
    conversation = get(database, conversation_id)
    with database.read() as tx:
        lines = conversations.transcript(
            tx, conversation, before_seq=conversation.last_seq + 1, messages=messages, translated=translated
        )
    return [(line.author.value, line.text) for line in lines]


# finding


def test_new_conversation_starts_with_the_assistant_and_no_thread(database: Database, bakery: Business) -> None:
    found = get(database, take(database, bakery, profile_name="Ana").conversation_id)

    assert (found.client_address, found.business_address) == (CUSTOMER, BUSINESS)
    assert (found.held_by, found.ai_thread, found.epoch, found.reset_seq) == (HeldBy.ASSISTANT, None, 0, 0)
    assert (found.last_seq, found.done_seq, found.profile_name) == (1, 0, "Ana")


def test_unknown_conversation_says_where_to_look(database: Database, bakery: Business) -> None:
    with database.read() as tx:
        with pytest.raises(ConversationNotFound) as by_id:
            conversations.get(tx, 404)
        with pytest.raises(ConversationNotFound) as by_number:
            conversations.find(tx, bakery, CUSTOMER)

    assert "thread list" in str(by_id.value.hint)
    assert "thread list --business bakery" in str(by_number.value.hint)


@pytest.mark.parametrize("asked_for", ["whatsapp:+5511987654321", "whatsapp:+551187654321", "whatsapp:BR.777x"])
def test_conversation_is_found_by_any_spelling_of_the_customer(
    database: Database, bakery: Business, asked_for: str
) -> None:
    taken = take(database, bakery, sender="whatsapp:+5511987654321", external_user_id="BR.777x")

    with database.read() as tx:
        assert conversations.find(tx, bakery, asked_for).id == taken.conversation_id


def test_id_finds_the_conversation_that_its_next_message_would_join(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    take(database, garage, external_user_id="US.777x")
    take(database, bakery)

    with database.read() as tx:
        with pytest.raises(ConversationNotFound):
            conversations.find(tx, bakery, "whatsapp:US.777x")
        assert [one.business_name for one in conversations.of_customer(tx, "whatsapp:US.777x")] == ["garage"]


def test_conversation_with_the_id_is_closer_than_one_that_once_wrote_from_it(
    database: Database, bakery: Business
) -> None:
    take(database, bakery, sender="whatsapp:US.777x")
    take(database, bakery, sender="whatsapp:US.777x", external_user_id="US.888y")
    joined = take(database, bakery, external_user_id="US.777x").conversation_id

    with database.read() as tx:
        assert conversations.find(tx, bakery, "whatsapp:US.777x").id == joined
        assert [one.conversation.id for one in conversations.of_customer(tx, "whatsapp:US.777x")] == [joined]
    assert take(database, bakery, sender="whatsapp:US.777x").conversation_id == joined


def test_customer_of_another_business_is_not_found(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    take(database, bakery)

    with database.read() as tx, pytest.raises(ConversationNotFound):
        conversations.find(tx, garage, CUSTOMER)


# lists


def test_list_shows_the_latest_conversation_first_and_counts_both_directions(
    database: Database, bakery: Business
) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    first = exchange(database, bakery, "Bread?", "Yes.", "And cake.")
    second = take(database, garage).conversation_id

    with database.read() as tx:
        everything = conversations.listed(tx, business=None, held=False, since=None, limit=10)
        bakerys = conversations.listed(tx, business=bakery, held=False, since=None, limit=10)
        newest = conversations.listed(tx, business=None, held=False, since=None, limit=1)
        one = conversations.summary(tx, first)

    assert [(s.conversation.id, s.business_name, s.messages) for s in everything] == [
        (second, "garage", 1),
        (first, "bakery", 3),
    ]
    assert [s.conversation.id for s in bakerys] == [first]
    assert [s.conversation.id for s in newest] == [second]
    assert one == bakerys[0]


def test_list_of_held_and_of_recent_conversations(database: Database, bakery: Business) -> None:
    held = take(database, bakery).conversation_id
    take(database, bakery, sender="whatsapp:+15552220001")
    with database.write() as tx:
        rows = tables.business_clients
        tx.execute(rows.update().where(rows.c.id == held).values(held_by="operator", last_message_at=1000.0))

    with database.read() as tx:
        assert [s.conversation.id for s in conversations.listed(tx, business=None, held=True, since=None, limit=9)] == [
            held
        ]
        recent = conversations.listed(tx, business=None, held=False, since=2000.0, limit=9)
    assert held not in [s.conversation.id for s in recent]
    assert len(recent) == 1


# the thread, the place, the language


def test_what_is_remembered_of_a_conversation_comes_back(database: Database, bakery: Business) -> None:
    conversation_id = take(database, bakery).conversation_id
    with database.write() as tx:
        conversations.set_ai_thread(tx, conversation_id, "conv_1")
        conversations.set_language(tx, conversation_id, "pt-BR")
        conversations.set_place(tx, conversation_id, "C1", "17.1")

    found = get(database, conversation_id)
    assert (found.ai_thread, found.language, found.slack_channel, found.slack_thread_ts) == (
        "conv_1",
        "pt-BR",
        "C1",
        "17.1",
    )


def test_reset_forgets_the_thread_keeps_the_history_and_fences_replies(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "Bread?", "Yes.")
    with database.write() as tx:
        conversations.set_ai_thread(tx, conversation_id, "conv_1")
    before = get(database, conversation_id)

    with database.write() as tx:
        conversations.reset(tx, before)

    after = get(database, conversation_id)
    assert (after.ai_thread, after.reset_seq, after.epoch) == (None, 1, before.epoch + 1)
    assert transcript(database, conversation_id) == []
    with database.read() as tx:
        assert [entry.body for entry in conversations.history(tx, conversation_id, last=None)] == ["Bread?", "Yes."]


def test_after_a_reset_the_assistant_sees_only_what_came_since(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "Bread?", "Yes.")
    with database.write() as tx:
        conversations.reset(tx, conversations.get(tx, conversation_id))
    exchange(database, bakery, "Cake?", "No.")

    assert transcript(database, conversation_id) == [("customer", "Cake?"), ("assistant", "No.")]


# the transcript


def test_what_happened_within_one_tick_of_the_clock_keeps_its_order(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "Bread?", "Yes.", "And cake.")
    exchange(database, bakery, "Open now?", "Until six.")
    with database.write() as tx:
        tx.execute(tables.inbound_messages.update().values(received_at=1000.0))
        tx.execute(tables.outbound_messages.update().values(created_at=1000.0, sent_at=1000.0))

    said = ["Bread?", "Yes.", "And cake.", "Open now?", "Until six."]
    assert [text for _, text in transcript(database, conversation_id)] == said
    with database.read() as tx:
        assert [entry.body for entry in conversations.history(tx, conversation_id, last=None)] == said


def test_transcript_is_the_exchange_in_order(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "Bread?", "Yes.", "And cake.")
    exchange(database, bakery, "Open now?", "Until six.")

    assert transcript(database, conversation_id) == [
        ("customer", "Bread?"),
        ("assistant", "Yes."),
        ("assistant", "And cake."),
        ("customer", "Open now?"),
        ("assistant", "Until six."),
    ]


def test_transcript_is_bounded_to_the_customers_last_messages(database: Database, bakery: Business) -> None:
    for number in range(4):
        conversation_id = exchange(database, bakery, f"question {number}", f"answer {number}")

    assert transcript(database, conversation_id, messages=1) == [("customer", "question 3"), ("assistant", "answer 3")]
    assert transcript(database, conversation_id, messages=0) == []


def test_transcript_leaves_out_what_answers_an_earlier_message_of_the_same_tick(
    database: Database, bakery: Business
) -> None:
    for number in range(2):
        conversation_id = exchange(database, bakery, f"question {number}", f"answer {number}")
    with database.write() as tx:
        for table, column in ((tables.inbound_messages, "received_at"), (tables.outbound_messages, "created_at")):
            tx.execute(table.update().values({column: 1000.0}))

    assert transcript(database, conversation_id, messages=1) == [("customer", "question 1"), ("assistant", "answer 1")]


def test_transcript_keeps_the_order_of_a_burst_that_came_within_one_tick(database: Database, bakery: Business) -> None:
    """Every message of the burst has the same time: the clock of a database has its grain."""
    for body in ("one", "two", "three"):
        conversation_id = take(database, bakery, body=body).conversation_id
    with database.write() as tx:
        tx.execute(tables.inbound_messages.update().values(received_at=1000.0))

    assert [text for _, text in transcript(database, conversation_id)] == ["one", "two", "three"]


def test_transcript_leaves_out_our_own_lines_and_what_was_never_sent(database: Database, bakery: Business) -> None:
    conversation_id = take(database, bakery, body="Bread?").conversation_id
    reply(database, open_turn(database, conversation_id), "Sorry, try later.", author=Author.SYSTEM)
    take(database, bakery, body="Hello?")
    turn = open_turn(database, conversation_id)
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["never sent"], Author.ASSISTANT)
    finish(database, turn, TurnState.DEAD)

    assert transcript(database, conversation_id) == [("customer", "Bread?"), ("customer", "Hello?")]


def test_transcript_names_what_came_without_text(database: Database, bakery: Business) -> None:
    conversation_id = take(database, bakery, body="", kind="audio").conversation_id

    assert transcript(database, conversation_id) == [("customer", "(A voice note without any text.)")]


def test_transcript_names_what_came_with_a_text_as_the_question_did(database: Database, bakery: Business) -> None:
    conversation_id = take(database, bakery, body="Is this still there?", kind="image").conversation_id
    question = open_turn(database, conversation_id).text

    assert transcript(database, conversation_id) == [("customer", question)]
    assert question == "Is this still there?\n(An image came with this message.)"


def translate(database: Database, conversation_id: int, question: str, reply: str, state: TurnState) -> None:
    """The question's translation, and the reply as the assistant worded it, in a turn that ended like that."""
    with database.write() as tx:
        tx.execute(tables.inbound_messages.update().values(translation=question, language="pt"))
        tx.execute(tables.turns.update().values(reply=reply, reply_translation="Sim. E bolo.", state=state))


def test_transcript_is_in_the_assistants_language_where_it_is_asked_in_one(
    database: Database, bakery: Business
) -> None:
    conversation_id = exchange(database, bakery, "Pão?", "Sim.", "E bolo.")
    translate(database, conversation_id, "Bread?", "Yes. And cake.", TurnState.DONE)

    assert transcript(database, conversation_id, translated=True) == [
        ("customer", "Bread?"),
        ("assistant", "Yes. And cake."),
    ]
    assert transcript(database, conversation_id) == [
        ("customer", "Pão?"),
        ("assistant", "Sim."),
        ("assistant", "E bolo."),
    ]


def test_transcript_holds_of_a_reply_that_broke_off_what_the_customer_read(
    database: Database, bakery: Business
) -> None:
    conversation_id = exchange(database, bakery, "Pão?", "Sim.")
    translate(database, conversation_id, "Bread?", "Yes. And cake.", TurnState.DEAD)

    assert transcript(database, conversation_id, translated=True) == [("customer", "Bread?"), ("assistant", "Sim.")]


def test_transcript_of_a_conversation_holds_nothing_of_another(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    exchange(database, bakery, "secret of the bakery", "answer of the bakery")
    with_garage = take(database, garage, body="Oil change?").conversation_id

    assert transcript(database, with_garage) == [("customer", "Oil change?")]


# the history


def test_history_shows_both_sides_with_their_states(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "Bread?", "Yes.", sid="SM1")
    take(database, bakery, body="", kind="image", simulated=True)
    turn = open_turn(database, conversation_id)
    with database.write() as tx:
        outbox.add_reply(tx, turn, ["Only text, please."], Author.SYSTEM)
        (part,) = outbox.parts(tx, turn.id)
        outbox.not_sent(tx, part, PartState.FAILED, "63016")

    with database.read() as tx:
        entries = conversations.history(tx, conversation_id, last=None)

    assert [(e.author.value, e.body, e.status) for e in entries] == [
        ("customer", "Bread?", "received"),
        ("assistant", "Yes.", "queued"),
        ("customer", "", "received"),
        ("system", "Only text, please.", "failed"),
    ]
    assert (entries[0].sid, entries[0].seq) == ("SM1", 1)
    assert (entries[2].kind, entries[2].simulated) == ("image", True)
    assert entries[3].error_code == "63016"


def test_history_shows_the_question_before_an_answer_of_the_same_tick(database: Database, bakery: Business) -> None:
    other = take(database, bakery, sender="whatsapp:+15552220001").conversation_id
    assert other
    conversation_id = exchange(database, bakery, "Bread?", "Yes.", "And cake.")
    with database.write() as tx:
        tx.execute(tables.inbound_messages.update().values(received_at=1000.0))
        tx.execute(tables.outbound_messages.update().values(created_at=1000.0, sent_at=1000.0))

    with database.read() as tx:
        entries = conversations.history(tx, conversation_id, last=None)
    assert [entry.body for entry in entries] == ["Bread?", "Yes.", "And cake."]


def test_history_can_be_cut_to_its_end(database: Database, bakery: Business) -> None:
    conversation_id = exchange(database, bakery, "one", "two")
    exchange(database, bakery, "three", "four")

    with database.read() as tx:
        assert [e.body for e in conversations.history(tx, conversation_id, last=3)] == ["two", "three", "four"]
        assert conversations.history(tx, conversation_id, last=0) == []
        assert conversations.history(tx, 404, last=3) == []
