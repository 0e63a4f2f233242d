"""Turns on both stores: one worker at a time has a conversation, and nothing it wrote is lost when it dies."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatbotctl.core.errors import LeaseLost
from chatbotctl.core.records.assistant import Answer, Usage
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Due
from chatbotctl.core.records.turn import Failure, Lease, TurnState
from chatbotctl.core.storage import businesses, conversations, outcomes, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from tests.contract import store
from tests.contract.store import claim, expire_lease, finish, make_due, open_turn, take
from tests.installs import add_business


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


@pytest.fixture
def conversation(database: Database, bakery: Business) -> int:
    """A conversation with one message that is due."""
    return take(database, bakery).conversation_id


# claiming


def test_of_many_workers_one_gets_the_conversation(database: Database, conversation: int) -> None:
    together = threading.Barrier(12)

    def try_it(number: int) -> Lease | None:
        together.wait()
        return claim(database, conversation, owner=f"worker-{number}")

    with ThreadPoolExecutor(12) as pool:
        leases = list(pool.map(try_it, range(12)))

    assert sum(lease is not None for lease in leases) == 1


def test_conversation_in_its_quiet_window_is_left_alone(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, quiet=60, max_wait=60)

    assert claim(database, taken.conversation_id) is None
    with database.read() as tx:
        assert turns.due(tx, 10) == []


def test_conversation_that_an_operator_holds_is_left_alone(database: Database, conversation: int) -> None:
    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="operator"))

    assert claim(database, conversation) is None
    with database.read() as tx:
        assert turns.due(tx, 10) == []


def test_answered_conversation_is_not_claimed_again(database: Database, conversation: int) -> None:
    assert finish(database, open_turn(database, conversation)) is None

    assert claim(database, conversation) is None


def test_sweeper_finds_what_is_due_longest_first_and_skips_what_is_leased(
    database: Database, bakery: Business, conversation: int
) -> None:
    second = take(database, bakery, sender="whatsapp:+15552220001").conversation_id
    third = take(database, bakery, sender="whatsapp:+15552220002").conversation_id
    make_due(database, third)
    assert claim(database, second) is not None

    with database.read() as tx:
        assert [due.conversation_id for due in turns.due(tx, 10)] == [third, conversation]
        assert [due.conversation_id for due in turns.due(tx, 1)] == [third]


def test_dead_workers_conversation_is_taken_over_when_its_lease_ran_out(database: Database, conversation: int) -> None:
    first = claim(database, conversation, owner="dead")
    assert claim(database, conversation, owner="heir") is None

    expire_lease(database, conversation)
    second = claim(database, conversation, owner="heir")

    assert first is not None and second is not None
    assert second.fence == first.fence + 1


def test_worker_that_slept_past_its_lease_cannot_write_any_more(database: Database, conversation: int) -> None:
    turn = open_turn(database, conversation, owner="sleeper")
    expire_lease(database, conversation)
    open_turn(database, conversation, owner="heir")

    with pytest.raises(LeaseLost), database.write() as tx:
        turns.check_fence(tx, turn.lease)


def test_lease_that_ran_out_but_was_not_taken_still_counts(database: Database, conversation: int) -> None:
    turn = open_turn(database, conversation)
    expire_lease(database, conversation)

    assert finish(database, turn) is None


def test_lease_on_a_conversation_that_was_removed_is_lost(
    database: Database, bakery: Business, conversation: int
) -> None:
    turn = open_turn(database, conversation)
    with database.write() as tx:
        businesses.remove(tx, bakery)

    with pytest.raises(LeaseLost), database.write() as tx:
        turns.check_fence(tx, turn.lease)


def test_heartbeat_renews_the_workers_own_leases_only(database: Database, bakery: Business, conversation: int) -> None:
    other = take(database, bakery, sender="whatsapp:+15552220001").conversation_id
    claim(database, conversation, owner="one", seconds=5)
    claim(database, other, owner="two", seconds=5)

    with database.write() as tx:
        assert turns.renew(tx, "one", 1000, [conversation, other]) == 1

    until = {row.id: row.lease_until for row in store.rows(database, tables.business_clients)}
    assert until[conversation] > until[other] + 500


def test_heartbeat_revives_a_lease_that_ran_out_unless_somebody_took_the_conversation(
    database: Database, bakery: Business, conversation: int
) -> None:
    """The database was away for longer than a lease: what is still being worked on is not begun a second time."""
    taken = take(database, bakery, sender="whatsapp:+15552220001").conversation_id
    for each in (conversation, taken):
        claim(database, each, owner="one", seconds=5)
        expire_lease(database, each)
    claim(database, taken, owner="two", seconds=5)

    with database.write() as tx:
        assert turns.renew(tx, "one", 1000, [conversation, taken]) == 1
        assert turns.due(tx, 10) == []


def test_businesses_can_be_left_out_of_what_is_due(database: Database, bakery: Business, conversation: int) -> None:
    with database.read() as tx:
        assert turns.due(tx, 10, without=[bakery.id]) == []
        assert turns.due(tx, 10, without=[bakery.id + 1]) == [Due(conversation, bakery.id)]


def test_heartbeat_leaves_a_lease_alone_that_nobody_works_under(database: Database, conversation: int) -> None:
    """Its turn broke off with the database away: only a lease that runs out gives the conversation back."""
    claim(database, conversation, owner="one", seconds=5)

    with database.write() as tx:
        assert turns.renew(tx, "one", 1000, []) == 0


# opening and resuming


def test_messages_that_wait_together_are_one_turn(database: Database, bakery: Business) -> None:
    for body in ("Hello", "", "Do you have bread?"):
        taken = take(database, bakery, body=body, kind="text" if body else "image")

    turn = open_turn(database, taken.conversation_id)

    assert [message.seq for message in turn.messages] == [1, 2, 3]
    assert turn.text == "Hello\nDo you have bread?"
    assert turn.upto_seq == 3


def test_without_a_window_each_message_is_a_turn_of_its_own(database: Database, bakery: Business) -> None:
    take(database, bakery, body="one")
    taken = take(database, bakery, body="two")

    first = open_turn(database, taken.conversation_id, one_message=True)
    assert finish(database, first) == 0.0
    second = open_turn(database, taken.conversation_id, one_message=True)

    assert (first.text, second.text) == ("one", "two")


def test_huge_burst_is_answered_in_turns_of_twenty(database: Database, bakery: Business) -> None:
    for _ in range(turns.MAX_MESSAGES + 1):
        taken = take(database, bakery)

    first = open_turn(database, taken.conversation_id)
    finish(database, first)

    assert len(first.messages) == 20
    assert len(open_turn(database, taken.conversation_id).messages) == 1


def test_real_and_simulated_messages_never_share_a_turn(database: Database, bakery: Business) -> None:
    for simulated in (False, True, True, False):
        taken = take(database, bakery, simulated=simulated)

    kinds = []
    for _ in range(3):
        turn = open_turn(database, taken.conversation_id)
        kinds.append((turn.simulated, len(turn.messages)))
        finish(database, turn)

    assert kinds == [(False, 1), (True, 2), (False, 1)]


def test_simulation_never_claims_a_real_customers_message(database: Database, bakery: Business) -> None:
    taken = take(database, bakery, simulated=False)
    take(database, bakery, simulated=True)

    def simulation() -> Lease | None:
        with database.write() as tx:
            return turns.claim(tx, taken.conversation_id, owner="cli", lease_seconds=30, simulated_only=True)

    assert simulation() is None
    finish(database, open_turn(database, taken.conversation_id))
    assert simulation() is not None


def test_turn_of_a_dead_worker_is_resumed_where_it_stopped(
    database: Database, bakery: Business, conversation: int
) -> None:
    turn = open_turn(database, conversation, owner="dead")
    answer = Answer(text="Yes", response_id="resp_1", model="gpt-test", usage=Usage(total_tokens=28))
    with database.write() as tx:
        turns.store_answer(tx, turn, answer, "Sim")
    take(database, bakery)
    expire_lease(database, conversation)

    resumed = open_turn(database, conversation, owner="heir")

    assert (resumed.id, resumed.upto_seq) == (turn.id, turn.upto_seq), "the newer message is not drawn into it"
    assert (resumed.answered, resumed.reply, resumed.reply_translation) == (True, "Yes", "Sim")
    (row,) = store.rows(database, tables.turns)
    assert (row.model, row.response_id, row.usage) == ("gpt-test", "resp_1", {"total_tokens": 28})


def test_failure_of_the_assistant_survives_the_worker(database: Database, conversation: int) -> None:
    turn = open_turn(database, conversation)
    failure = Failure(code="assistant_failed", message="The model declined to answer.")
    with database.write() as tx:
        turns.store_own_line(tx, turn, failure)
    expire_lease(database, conversation)

    resumed = open_turn(database, conversation)

    assert resumed.answered
    assert resumed.failure == failure


def test_failure_without_an_answer_is_told_to_whoever_reads_the_thread(database: Database, conversation: int) -> None:
    turn = open_turn(database, conversation)
    with database.write() as tx:
        assert outcomes.failed_turns(tx, conversation) == []
        turns.store_own_line(tx, turn, Failure(code="assistant_failed", message="The model declined to answer."))

    with database.read() as tx:
        (failed,) = outcomes.failed_turns(tx, conversation)
    assert (failed.upto_seq, failed.message) == (turn.upto_seq, "The model declined to answer.")
    assert failed.apology_at is None


def test_long_name_of_a_model_is_cut_and_not_refused(database: Database, conversation: int) -> None:
    """Servers of local models name a model by its file's path."""
    turn = open_turn(database, conversation)
    with database.write() as tx:
        turns.store_answer(tx, turn, Answer(text="Yes", model="/models/" + "x" * 300, response_id="r" * 300), None)

    (row,) = store.rows(database, tables.turns)
    assert row.model.startswith("/models/xxx")


def test_turn_that_is_put_off_keeps_its_place_and_counts_its_attempts(
    database: Database, bakery: Business, conversation: int
) -> None:
    turn = open_turn(database, conversation)
    with database.write() as tx:
        turns.check_fence(tx, turn.lease)
        turns.postpone(tx, turn, 60, code="send_failed")
    take(database, bakery, body="still there?")
    assert claim(database, conversation) is None

    make_due(database, conversation)
    resumed = open_turn(database, conversation)

    assert (resumed.id, resumed.attempts, resumed.upto_seq) == (turn.id, 1, 1)


def test_finished_turn_says_when_the_next_message_is_due(
    database: Database, bakery: Business, conversation: int
) -> None:
    turn = open_turn(database, conversation)
    take(database, bakery, quiet=60, max_wait=600)

    assert finish(database, turn) == pytest.approx(60, abs=5)


# what became of a message


def status(database: Database, sid: str) -> tuple[str, str | None]:
    with database.read() as tx:
        outcome = outcomes.of_message(tx, sid)
    assert outcome is not None
    return outcome.result.value, outcome.code


@pytest.mark.parametrize(
    ("state", "result"), [("done", "replied"), ("withdrawn", "withdrawn"), ("open", "queued"), ("answered", "queued")]
)
def test_outcome_follows_the_turn(database: Database, bakery: Business, state: str, result: str) -> None:
    open_turn(database, take(database, bakery, sid="SM1").conversation_id)
    with database.write() as tx:
        tx.execute(tables.turns.update().values(state=state))

    assert status(database, "SM1") == (result, None)


def test_outcome_of_a_dead_letter_says_why(database: Database, bakery: Business) -> None:
    turn = open_turn(database, take(database, bakery, sid="SM1").conversation_id)
    with database.write() as tx:
        turns.finish(tx, turn, TurnState.DEAD, Failure(code="assistant_failed", message="It was empty."))
        outcome = outcomes.of_message(tx, "SM1")

    assert outcome is not None
    assert (outcome.result.value, outcome.code, outcome.message) == ("failed", "assistant_failed", "It was empty.")


def test_outcome_before_any_turn_is_queued_or_held(database: Database, bakery: Business) -> None:
    take(database, bakery, sid="SM1")
    assert status(database, "SM1") == ("queued", None)

    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="operator"))
    assert status(database, "SM1") == ("held", None)


def test_answered_message_stays_answered_when_an_operator_takes_over(database: Database, bakery: Business) -> None:
    finish(database, open_turn(database, take(database, bakery, sid="SM1").conversation_id))
    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="operator"))

    assert status(database, "SM1") == ("replied", None)


def test_withdrawn_answer_is_told_from_an_operators_hold(database: Database, bakery: Business) -> None:
    """A take-over withdraws what was under way; only what comes after it waits for the operator."""
    turn = open_turn(database, take(database, bakery, sid="SM1").conversation_id)
    with database.write() as tx:
        tx.execute(tables.business_clients.update().values(held_by="operator"))
    finish(database, turn, TurnState.WITHDRAWN)
    take(database, bakery, sid="SM2")

    assert (status(database, "SM1"), status(database, "SM2")) == (("withdrawn", None), ("held", None))


def test_each_message_of_a_burst_has_the_turns_outcome(database: Database, bakery: Business) -> None:
    take(database, bakery, sid="SM1")
    finish(database, open_turn(database, take(database, bakery, sid="SM2").conversation_id))
    take(database, bakery, sid="SM3")

    assert [status(database, sid)[0] for sid in ("SM1", "SM2", "SM3")] == ["replied", "replied", "queued"]


def test_nothing_is_known_of_a_message_that_never_came(database: Database) -> None:
    with database.read() as tx:
        assert outcomes.of_message(tx, "SM404") is None


# the epoch


def test_turn_remembers_the_epoch_that_it_was_opened_in(
    database: Database, bakery: Business, conversation: int
) -> None:
    turn = open_turn(database, conversation)
    with database.write() as tx:
        conversations.reset(tx, turn.conversation)
    with database.write() as tx:
        businesses.set_disabled(tx, bakery, True, "closed")
        assert turns.check_fence(tx, turn.lease) == turn.epoch + 2


def test_reset_of_a_turn_that_has_said_nothing_yet_does_not_cost_the_customer_the_answer(
    database: Database, conversation: int
) -> None:
    turn = open_turn(database, conversation)
    with database.write() as tx:
        turns.postpone(tx, turn, 0.0, code="timeout")
        conversations.reset(tx, conversations.get(tx, conversation))

    resumed = open_turn(database, conversation)

    assert resumed.id == turn.id
    assert resumed.epoch == turn.epoch + 1, "what it says from now on may leave"
