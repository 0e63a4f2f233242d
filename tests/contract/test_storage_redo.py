"""Dead turns that an operator has gone on with, on both stores: they come first, once, and nothing else is upset."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.turn import Failure, Lease, PartState, Turn, TurnState
from chatbotctl.core.storage import conversations, dead_letters, outbox, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database, now
from tests.contract import store
from tests.contract.store import claim, expire_lease, finish, make_due, open_turn, take
from tests.installs import add_business

ASSISTANT_FAILED = Failure(code="assistant_failed", message="It was empty.")
SEND_FAILED = Failure(code="send_failed", message="Twilio did not take it.")


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def die(database: Database, turn: Turn, failure: Failure = ASSISTANT_FAILED) -> None:
    """The turn ends as a dead letter."""
    with database.write() as tx:
        turns.check_fence(tx, turn.lease)
        turns.finish(tx, turn, TurnState.DEAD, failure)
        outbox.close(tx, turn.id, PartState.FAILED)


def dead(database: Database, bakery: Business, **fields: object) -> Turn:
    """A message of the one customer, whose turn is dead."""
    turn = open_turn(database, take(database, bakery, **fields).conversation_id)  # type: ignore[arg-type]
    die(database, turn)
    return turn


def unsent(database: Database, bakery: Business, *states: str) -> Turn:
    """A dead turn whose reply was there; its parts are in these states."""
    turn = open_turn(database, take(database, bakery).conversation_id)
    with database.write() as tx:
        turns.store_answer(tx, turn, Answer(text="Yes"), None)
        outbox.add_reply(tx, turn, [f"part {number}" for number, _ in enumerate(states, 1)], Author.ASSISTANT)
    die(database, turn, SEND_FAILED)
    with database.write() as tx:
        for number, state in enumerate(states, 1):
            part = update(tables.outbound_messages).where(tables.outbound_messages.c.turn_id == turn.id)
            part = part.where(tables.outbound_messages.c.part == number)
            tx.execute(part.values(state=state, error_code=None if state == "sent" else "30001"))
    return turn


def retry(database: Database, turn: Turn) -> dead_letters.Retried:
    with database.write() as tx:
        return dead_letters.retry_turn(tx, turn.id)


def conversation(database: Database, turn: Turn) -> tuple[int, int, int, bool]:
    """last_seq, done_seq, redo, and whether it is due at any time."""
    (row,) = store.rows(database, tables.business_clients)
    return row.last_seq, row.done_seq, row.redo, row.ready_at is not None


def part_states(database: Database) -> list[tuple[int, str]]:
    return [(row.part, row.state) for row in store.rows(database, tables.outbound_messages)]


def test_retried_turn_is_due_at_once_and_done_when_it_is_done(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    assert claim(database, turn.conversation.id) is None, "a dead letter waits for nobody"

    assert retry(database, turn).asks
    assert conversation(database, turn) == (1, 1, 1, True)
    again = open_turn(database, turn.conversation.id)

    assert (again.id, again.redone, again.resumed, again.answered, again.attempts) == (turn.id, True, True, False, 0)
    assert again.failure is None
    assert finish(database, again) is None
    assert conversation(database, turn) == (1, 1, 0, False)
    assert claim(database, turn.conversation.id) is None


def test_retried_turns_come_before_newer_messages_oldest_first(database: Database, bakery: Business) -> None:
    first, second = dead(database, bakery, body="one"), dead(database, bakery, body="two")
    take(database, bakery, body="three")
    retry(database, second)
    retry(database, first)
    assert conversation(database, first) == (3, 2, 2, True)

    texts = []
    for _ in range(3):
        turn = open_turn(database, first.conversation.id)
        texts.append(turn.text)
        assert conversation(database, first)[1] == 2, "done_seq never goes back"
        finish(database, turn)

    assert texts == ["one", "two", "three"]
    assert conversation(database, first) == (3, 3, 0, False)


def test_turn_that_runs_while_another_is_retried_is_finished_first(database: Database, bakery: Business) -> None:
    old = dead(database, bakery, body="old")
    take(database, bakery, body="new")
    new = open_turn(database, old.conversation.id)
    retry(database, old)
    assert claim(database, old.conversation.id) is None, "one turn of a conversation at a time"

    assert finish(database, new) == 0.0
    assert open_turn(database, old.conversation.id).text == "old"
    assert conversation(database, old)[:2] == (2, 2)


def test_newer_messages_keep_their_burst_window(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    retry(database, turn)
    again = open_turn(database, turn.conversation.id)
    take(database, bakery, quiet=60, max_wait=600)

    assert finish(database, again) == pytest.approx(60, abs=5)


def test_newer_turn_that_was_put_off_keeps_its_backoff(database: Database, bakery: Business) -> None:
    old = dead(database, bakery)
    take(database, bakery)
    new = open_turn(database, old.conversation.id)
    with database.write() as tx:
        turns.postpone(tx, new, 200, code="send_failed")
    retry(database, old)

    again = open_turn(database, old.conversation.id)
    assert again.id == old.id
    assert finish(database, again) == pytest.approx(200, abs=5)


def test_customer_who_writes_on_does_not_use_a_retried_turns_attempts_up(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    retry(database, turn)
    with database.write() as tx:
        turns.postpone(tx, open_turn_in(tx, turn), 60, code="send_failed")
    take(database, bakery)
    assert claim(database, turn.conversation.id) is None

    make_due(database, turn.conversation.id)
    resumed = open_turn(database, turn.conversation.id)

    assert (resumed.id, resumed.attempts) == (turn.id, 1)


def open_turn_in(tx: object, turn: Turn) -> Turn:
    lease = turns.claim(tx, turn.conversation.id, owner="one", lease_seconds=30)  # type: ignore[arg-type]
    assert lease is not None
    return turns.open_turn(tx, lease, one_message=False)  # type: ignore[arg-type]


def test_second_retry_does_not_hurry_the_first_ones_backoff(database: Database, bakery: Business) -> None:
    first, second = dead(database, bakery), dead(database, bakery)
    retry(database, first)
    with database.write() as tx:
        turns.postpone(tx, open_turn_in(tx, first), 60, code="send_failed")

    retry(database, second)

    assert claim(database, first.conversation.id) is None


def test_retried_turn_whose_worker_died_is_resumed(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    retry(database, turn)
    again = open_turn(database, turn.conversation.id, owner="dead")
    with database.write() as tx:
        turns.store_answer(tx, again, Answer(text="Yes"), None)
    expire_lease(database, turn.conversation.id)

    resumed = open_turn(database, turn.conversation.id, owner="heir")

    assert (resumed.id, resumed.redone, resumed.answered, resumed.told_reply) == (turn.id, True, True, False)
    finish(database, resumed)
    assert conversation(database, turn) == (1, 1, 0, False)


def test_retried_turn_that_dies_again_can_be_retried_again(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    retry(database, turn)
    die(database, open_turn(database, turn.conversation.id))
    assert conversation(database, turn) == (1, 1, 0, False)

    retry(database, turn)

    assert open_turn(database, turn.conversation.id).id == turn.id


def test_stored_reply_goes_on_with_the_parts_that_did_not_leave(database: Database, bakery: Business) -> None:
    turn = unsent(database, bakery, "sent", "failed", "failed")

    assert not retry(database, turn).asks
    again = open_turn(database, turn.conversation.id)

    assert part_states(database) == [(1, "sent"), (2, "ready"), (3, "ready")]
    assert (again.answered, again.reply, again.failure) == (True, "Yes", None)
    assert (again.told_parts, again.told_reply) == (1, True)


def test_part_that_may_have_left_is_to_be_looked_up_and_not_just_sent(database: Database, bakery: Business) -> None:
    retry(database, unsent(database, bakery, "unknown", "failed"))

    assert part_states(database) == [(1, "sending"), (2, "ready")]


def test_new_reply_is_numbered_behind_the_apology_that_was_read(database: Database, bakery: Business) -> None:
    turn = open_turn(database, take(database, bakery).conversation_id)
    with database.write() as tx:
        turns.store_own_line(tx, turn, ASSISTANT_FAILED)
        outbox.add_reply(tx, turn, ["Sorry"], Author.SYSTEM)
        tx.execute(update(tables.outbound_messages).values(state="sent"))
    die(database, turn)

    assert retry(database, turn).asks
    again = open_turn(database, turn.conversation.id)
    with database.write() as tx:
        outbox.add_reply(tx, again, ["Yes", "indeed"], Author.ASSISTANT)

    assert part_states(database) == [(1, "sent"), (2, "ready"), (3, "ready")]


def test_retried_turn_belongs_to_the_present_epoch(database: Database, bakery: Business) -> None:
    turn = unsent(database, bakery, "failed")
    with database.write() as tx:
        conversations.reset(tx, conversations.get(tx, turn.conversation.id))
    retry(database, turn)
    again = open_turn(database, turn.conversation.id)

    with database.write() as tx:
        epoch = turns.check_fence(tx, again.lease)
        (part,) = outbox.parts(tx, turn.id)
        assert outbox.start_sending(tx, part, epoch=epoch)
    assert again.epoch == turn.epoch + 1


def test_reset_after_the_retry_withdraws_the_stored_reply(database: Database, bakery: Business) -> None:
    turn = unsent(database, bakery, "failed")
    retry(database, turn)
    with database.write() as tx:
        conversations.reset(tx, conversations.get(tx, turn.conversation.id))
    again = open_turn(database, turn.conversation.id)

    with database.write() as tx:
        (part,) = outbox.parts(tx, turn.id)
        assert not outbox.start_sending(tx, part, epoch=turns.check_fence(tx, again.lease))


def test_new_owner_of_the_number_gets_no_answer_that_was_retried_for_the_old_one(
    database: Database, bakery: Business
) -> None:
    asked = dead(database, bakery, external_user_id="US.OLD")
    said = unsent(database, bakery, "failed")
    retry(database, asked)
    retry(database, said)

    take(database, bakery, body="I am new", external_user_id="US.NEW")

    assert conversation(database, asked) == (3, 2, 0, True)
    assert open_turn(database, asked.conversation.id).text == "I am new"
    assert part_states(database) == [(1, "withdrawn")]


@pytest.mark.parametrize("simulated", [True, False])
def test_simulation_claims_a_retried_turn_only_if_that_is_simulated(
    database: Database, bakery: Business, simulated: bool
) -> None:
    old = dead(database, bakery, simulated=simulated)
    take(database, bakery, simulated=not simulated)
    retry(database, old)

    def simulation() -> Lease | None:
        with database.write() as tx:
            return turns.claim(tx, old.conversation.id, owner="cli", lease_seconds=30, simulated_only=True)

    assert (simulation() is not None) == simulated


def test_sweeper_finds_what_was_retried(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    retry(database, turn)

    with database.read() as tx:
        assert [due.conversation_id for due in turns.due(tx, 10)] == [turn.conversation.id]


def test_retry_for_a_held_conversation_waits_until_it_is_given_back(database: Database, bakery: Business) -> None:
    turn = dead(database, bakery)
    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="operator"))
    assert retry(database, turn).held
    assert claim(database, turn.conversation.id) is None

    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="assistant"))
    assert claim(database, turn.conversation.id) is not None


def test_old_turns_transcript_ends_where_it_was(database: Database, bakery: Business) -> None:
    """What was asked and answered since is no past of the question that is answered late."""
    for body, state in (("before", "done"), ("old", "dead"), ("newer", "done")):
        turn = open_turn(database, take(database, bakery, body=body).conversation_id)
        with database.write() as tx:
            if state == "done":
                turns.store_answer(tx, turn, Answer(text=f"Re: {body}"), None)
                outbox.add_reply(tx, turn, [f"Re: {body}"], Author.ASSISTANT)
                sent = update(tables.outbound_messages).where(tables.outbound_messages.c.turn_id == turn.id)
                tx.execute(sent.values(state="sent", sent_at=now()))
            turns.finish(tx, turn, TurnState(state))
    (_, old, _) = store.rows(database, tables.turns)
    with database.write() as tx:
        dead_letters.retry_turn(tx, old.id)
    again = open_turn(database, old.conversation_id)

    with database.read() as tx:
        past = conversations.transcript(tx, again.conversation, before_seq=2, messages=10, translated=False)
        seed = conversations.transcript(
            tx, again.conversation, before_seq=4, messages=10, translated=False, without=(2, 2)
        )

    assert [line.text for line in past] == ["before", "Re: before"]
    assert [line.text for line in seed] == ["before", "Re: before", "newer", "Re: newer"]
