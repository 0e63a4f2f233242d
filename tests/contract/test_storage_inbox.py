"""The inbox on both stores: every message once, in order, in the right customer's conversation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.message import Media
from chatbotctl.core.storage import conversations, inbox, turns
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import business_clients, clients, events, inbound_messages
from tests.contract import store
from tests.contract.store import take
from tests.installs import CUSTOMER, add_business, eventually, message


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def test_messages_of_one_customer_are_numbered_from_one(database: Database, bakery: Business) -> None:
    taken = [take(database, bakery) for _ in range(3)]

    assert [one.seq for one in taken] == [1, 2, 3]
    assert len({one.conversation_id for one in taken}) == 1


def test_two_customers_have_a_conversation_each(database: Database, bakery: Business) -> None:
    ana, bob = take(database, bakery), take(database, bakery, sender="whatsapp:+15552220001")

    assert ana.conversation_id != bob.conversation_id
    assert (ana.seq, bob.seq) == (1, 1)


def test_one_customer_of_two_businesses_has_a_conversation_with_each(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")

    with_bakery, with_garage = take(database, bakery), take(database, garage)

    assert with_bakery.conversation_id != with_garage.conversation_id
    assert store.count(database, clients) == 1


def test_everything_about_a_message_is_kept(database: Database, bakery: Business) -> None:
    media = (Media(url="https://media.example/1", content_type="image/png"),)
    sent = message(
        "look",
        kind="image",
        media=media,
        parameters={"NumMedia": "1", "Ünïcode": "日本"},
        simulated=True,
        mirrored=False,
    )

    take(database, bakery, sent)

    (row,) = store.rows(database, inbound_messages)
    assert (row.sid, row.sender, row.body, row.kind) == (sent.sid, CUSTOMER, "look", "image")
    assert row.media == [{"url": "https://media.example/1", "content_type": "image/png"}]
    assert row.parameters == {"NumMedia": "1", "Ünïcode": "日本"}
    assert (row.simulated, row.mirrored) == (True, False)


def test_second_copy_of_a_message_is_a_duplicate_and_leaves_no_trace(database: Database, bakery: Business) -> None:
    first = take(database, bakery, sid="SM1")

    with pytest.raises(inbox.DuplicateMessage):
        take(database, bakery, sid="SM1", body="another text")

    assert store.count(database, inbound_messages) == 1
    with database.read() as tx:
        assert conversations.get(tx, first.conversation_id).last_seq == 1
        assert inbox.find(tx, "SM1", bakery) == first


def test_copy_from_an_unknown_customer_leaves_no_customer_behind(database: Database, bakery: Business) -> None:
    take(database, bakery, sid="SM1")

    with pytest.raises(inbox.DuplicateMessage):
        take(database, bakery, sid="SM1", sender="whatsapp:+15559990000")

    assert store.count(database, clients) == 1


def test_fifty_copies_at_once_are_one_message(database: Database, bakery: Business) -> None:
    together = threading.Barrier(50)

    def copy(_: int) -> bool:
        together.wait()
        try:
            take(database, bakery, sid="SM1")
        except inbox.DuplicateMessage:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        taken = list(pool.map(copy, range(50)))

    assert taken.count(True) == 1
    assert store.count(database, inbound_messages) == 1
    assert [row.kind for row in store.rows(database, events)] == ["received"]


def test_first_messages_of_a_new_customer_at_once_make_one_conversation(database: Database, bakery: Business) -> None:
    together = threading.Barrier(16)

    def first(_: int) -> inbox.Taken:
        together.wait()
        return take(database, bakery)

    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(first, range(16)))

    assert len({one.conversation_id for one in taken}) == 1
    assert sorted(one.seq for one in taken) == list(range(1, 17))
    assert (store.count(database, clients), store.count(database, business_clients)) == (1, 1)


# who is who


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("whatsapp:+5511987654321", "whatsapp:+551187654321"),
        ("whatsapp:+551187654321", "whatsapp:+5511987654321"),
        ("whatsapp:+5491123456789", "whatsapp:+541123456789"),
        ("whatsapp:+5215512345678", "whatsapp:+525512345678"),
    ],
)
def test_other_spelling_of_a_number_is_the_same_customer(
    database: Database, bakery: Business, first: str, later: str
) -> None:
    one, other = take(database, bakery, sender=first), take(database, bakery, sender=later)

    assert one.conversation_id == other.conversation_id
    assert [row.sender for row in store.rows(database, inbound_messages)] == [first, later]


def test_customer_who_hides_the_number_keeps_the_conversation(database: Database, bakery: Business) -> None:
    with_number = take(database, bakery, external_user_id="US.134912abc")
    hidden = take(database, bakery, sender="whatsapp:US.134912abc")
    again = take(database, bakery, external_user_id="US.134912abc")

    assert {with_number.conversation_id} == {hidden.conversation_id, again.conversation_id}


def test_customer_who_shows_the_number_later_keeps_the_conversation(database: Database, bakery: Business) -> None:
    hidden = take(database, bakery, sender="whatsapp:US.134912abc")
    with_number = take(database, bakery, external_user_id="US.134912abc")

    assert hidden.conversation_id == with_number.conversation_id


def test_known_number_learns_its_id_once_twilio_sends_one(database: Database, bakery: Business) -> None:
    old = take(database, bakery)
    take(database, bakery, external_user_id="US.134912abc")
    hidden = take(database, bakery, sender="whatsapp:US.134912abc")

    assert old.conversation_id == hidden.conversation_id


def test_number_and_id_that_arrive_at_the_same_moment_are_both_stored(database: Database, bakery: Business) -> None:
    """The number is known without the id; the id's own first message commits while the number's is being taken."""
    take(database, bakery)
    arrived = threading.Event()

    def from_the_number() -> inbox.Taken:
        with database.write() as tx:
            arrived.set()
            return inbox.take(tx, bakery, message(external_user_id="US.134912abc"), quiet_seconds=0, max_wait_seconds=0)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as tx:
            hidden = message(sender="whatsapp:US.134912abc")
            first = inbox.take(tx, bakery, hidden, quiet_seconds=0, max_wait_seconds=0)
            waiting = pool.submit(from_the_number)
            # Long enough for it to look the customer up where it can, before this transaction commits.
            arrived.wait(0.3)
            threading.Event().wait(0.2)
        second = waiting.result(20)

    assert second.conversation_id == first.conversation_id
    assert store.count(database, inbound_messages) == 3


def test_id_that_two_numbers_bring_at_the_same_moment_makes_one_conversation(
    database: Database, bakery: Business
) -> None:
    together = threading.Barrier(12)

    def first(number: int) -> inbox.Taken:
        sent = (
            message(sender="whatsapp:US.134912abc")
            if number % 2
            else message(sender=CUSTOMER, external_user_id="US.134912abc")
        )
        together.wait()
        return take(database, bakery, sent)

    with ThreadPoolExecutor(12) as pool:
        taken = list(pool.map(first, range(12)))

    assert len({one.conversation_id for one in taken}) == 1
    assert sorted(one.seq for one in taken) == list(range(1, 13))


def test_id_that_one_business_binds_to_a_number_means_nothing_at_another(database: Database, bakery: Business) -> None:
    """A tenant signs for its own Twilio account, and could say of anybody's number that it has any id."""
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    victims = take(database, bakery, profile_name="Victim")
    take(database, garage, external_user_id="US.134912abc")

    strangers = take(database, bakery, sender="whatsapp:US.134912abc")
    victims_again = take(database, bakery)

    assert strangers.conversation_id != victims.conversation_id
    assert victims_again.conversation_id == victims.conversation_id
    with database.read() as tx:
        assert conversations.find(tx, bakery, "whatsapp:US.134912abc").id == strangers.conversation_id


def test_one_person_may_have_the_same_id_at_two_businesses(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    for business in (bakery, garage):
        with_number = take(database, business, external_user_id="US.134912abc")
        hidden = take(database, business, sender="whatsapp:US.134912abc")
        assert hidden.conversation_id == with_number.conversation_id


def test_id_leads_to_its_conversation_even_from_another_customers_number(database: Database, bakery: Business) -> None:
    hidden = take(database, bakery, sender="whatsapp:US.134912abc")
    take(database, bakery)

    assert take(database, bakery, external_user_id="US.134912abc").conversation_id == hidden.conversation_id


def test_profile_name_is_kept_when_a_later_message_has_none(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, profile_name="Ana")
    take(database, bakery)

    with database.read() as tx:
        assert conversations.get(tx, taken.conversation_id).profile_name == "Ana"


def test_newer_profile_name_replaces_the_older_one(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, profile_name="Ana")
    take(database, bakery, profile_name="Ana Souza")

    with database.read() as tx:
        assert conversations.get(tx, taken.conversation_id).profile_name == "Ana Souza"


def test_what_one_business_learned_of_a_customer_another_never_sees(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    take(database, bakery, profile_name="Ana")
    at_garage = take(database, garage)

    with database.read() as tx:
        assert conversations.get(tx, at_garage.conversation_id).profile_name is None


def test_sid_of_another_business_is_found_by_nobody_else(database: Database, bakery: Business) -> None:
    garage = add_business(database, "garage", "whatsapp:+15550002222")
    take(database, bakery, sid="SM1")

    with pytest.raises(inbox.DuplicateMessage):
        take(database, garage, sid="SM1")

    with database.read() as tx:
        assert inbox.find(tx, "SM1", garage) is None


# the burst window


def test_conversation_is_due_when_the_quiet_window_closes(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, quiet=60, max_wait=300)

    assert taken.delay == pytest.approx(60, abs=5)


def test_each_message_of_a_burst_begins_the_quiet_window_anew(database: Database, bakery: Business) -> None:
    take(database, bakery, quiet=0, max_wait=300)

    assert take(database, bakery, quiet=60, max_wait=300).delay == pytest.approx(60, abs=5)


def test_burst_waits_no_longer_than_max_wait_after_its_first_message(database: Database, bakery: Business) -> None:
    first = take(database, bakery, quiet=60, max_wait=300)

    assert take(database, bakery, quiet=60, max_wait=0).delay == 0
    assert first.delay > 0


def test_answered_messages_do_not_count_for_max_wait(database: Database, bakery: Business) -> None:
    first = take(database, bakery)
    store.finish(database, store.open_turn(database, first.conversation_id))

    assert take(database, bakery, quiet=30, max_wait=40).delay == pytest.approx(30, abs=5)


def test_messages_that_come_while_a_long_turn_runs_have_a_window_of_their_own(
    database: Database, bakery: Business
) -> None:
    first = take(database, bakery)
    store.open_turn(database, first.conversation_id)
    with database.write() as tx:
        tx.execute(inbound_messages.update().values(received_at=inbound_messages.c.received_at - 100))

    assert take(database, bakery, quiet=30, max_wait=40).delay == pytest.approx(30, abs=5)


def test_message_that_comes_while_a_turn_is_put_off_does_not_shorten_the_wait(
    database: Database, bakery: Business
) -> None:
    """A customer who writes on during an outage must not use up the attempts that are to outlast it."""
    first = take(database, bakery)
    turn = store.open_turn(database, first.conversation_id)
    with database.write() as tx:
        turns.postpone(tx, turn, 120.0, code="send_failed")

    assert take(database, bakery).delay == pytest.approx(120, abs=10)
    assert store.claim(database, first.conversation_id) is None


def test_message_that_comes_at_the_moment_in_which_a_turn_is_put_off_does_not_shorten_the_wait(
    database: Database, bakery: Business
) -> None:
    """It waits for the conversation's row, and must not decide by what it saw before."""
    turn = store.open_turn(database, take(database, bakery).conversation_id)
    with ThreadPoolExecutor(1) as pool:
        with database.write() as tx:
            turns.check_fence(tx, turn.lease)
            taken = pool.submit(take, database, bakery, quiet=1)
            if not database.is_sqlite:
                eventually(lambda: tx.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
            turns.postpone(tx, turn, 120.0, code="send_failed")
        assert taken.result().delay == pytest.approx(120, abs=10)
