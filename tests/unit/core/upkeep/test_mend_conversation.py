"""The decision behind `db repair`, for any counters and turns: the thread is sound then, and answers nothing twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from chatbotctl.core.records.mending import ConversationFacts, DueTime, Mending, TurnFacts
from chatbotctl.core.upkeep.mend_conversation import changes, plan

SEQS = st.integers(0, 6)
#: Enough for two of the rarer contradictions to meet.
many = settings(max_examples=1000)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[ConversationFacts, frozenset[int]]:
    """A conversation that may contradict itself in any way, and the numbers of its messages."""
    messages = draw(st.frozensets(st.integers(1, 6)))
    begins = sorted(draw(st.frozensets(st.integers(1, 6), max_size=5)))
    turns = []
    for number, first in enumerate(begins):
        upto = first + draw(st.integers(0, 3))
        complete = messages.issuperset(range(first, upto + 1))
        turns.append(
            TurnFacts(id=number, first_seq=first, upto_seq=upto, unfinished=draw(st.booleans()), complete=complete)
        )
    done_seq = draw(SEQS)
    facts = ConversationFacts(
        last_seq=draw(SEQS),
        done_seq=done_seq,
        reset_seq=draw(SEQS),
        redo=draw(st.integers(0, 3)),
        is_due=draw(st.sampled_from((None, True, False))),
        lease_is_wrong=draw(st.booleans()),
        is_leased=False,
        newest_message=max(messages, default=0),
        waiting=tuple(sorted(seq for seq in messages if seq > done_seq)),
        turns=tuple(turns),
    )
    return facts, messages


def after(facts: ConversationFacts, wanted: Mending, messages: frozenset[int]) -> ConversationFacts:
    """The conversation once `wanted` is written."""
    turns = [replace(turn, unfinished=turn.unfinished and turn.id not in wanted.ended) for turn in facts.turns]
    for first, last in wanted.uncovered:
        turns.append(TurnFacts(id=100 + first, first_seq=first, upto_seq=last, unfinished=False))
    due = {DueTime.KEEP: facts.is_due, DueTime.NOW: True, DueTime.NEVER: None}[wanted.due]
    return replace(
        facts,
        last_seq=wanted.last_seq,
        done_seq=wanted.done_seq,
        reset_seq=wanted.reset_seq,
        redo=wanted.redo,
        is_due=due,
        lease_is_wrong=facts.lease_is_wrong and not wanted.clear_lease,
        waiting=tuple(sorted(seq for seq in messages if seq > wanted.done_seq)),
        turns=tuple(sorted(turns, key=lambda turn: turn.first_seq)),
    )


@many
@given(conversations(), st.booleans())
def test_what_was_put_right_is_left_as_it_is(given_: tuple[ConversationFacts, frozenset[int]], hold: bool) -> None:
    facts, messages = given_
    mended = after(facts, plan(facts, hold=hold), messages)
    assert not changes(mended, plan(mended, hold=hold))
    assert not changes(mended, plan(mended))


@many
@given(conversations())
def test_the_counters_and_turns_of_a_mended_thread_agree(given_: tuple[ConversationFacts, frozenset[int]]) -> None:
    facts, messages = given_
    mended = after(facts, plan(facts), messages)
    unfinished = [turn for turn in mended.turns if turn.unfinished]
    covered = {seq for turn in mended.turns for seq in range(turn.first_seq, turn.upto_seq + 1)}

    assert 0 <= mended.done_seq <= mended.last_seq
    assert mended.reset_seq <= mended.last_seq
    assert mended.last_seq >= max(messages, default=0), "the next message's number is free"
    assert set(range(1, mended.done_seq + 1)) <= covered
    assert mended.redo == sum(turn.upto_seq <= mended.done_seq for turn in unfinished)
    assert all(turn.first_seq == mended.done_seq + 1 for turn in unfinished if turn.upto_seq > mended.done_seq)
    pending = mended.last_seq > mended.done_seq or mended.redo > 0
    assert mended.is_due is (True if pending else None)
    if mended.last_seq > mended.done_seq:
        assert mended.done_seq + 1 in messages, "the next message is there"


@many
@given(conversations())
def test_no_message_of_a_turn_that_has_ended_is_answered_again(
    given_: tuple[ConversationFacts, frozenset[int]],
) -> None:
    facts, messages = given_
    mended = after(facts, plan(facts), messages)
    ended = {seq for turn in facts.turns if not turn.unfinished for seq in range(turn.first_seq, turn.upto_seq + 1)}
    assert not [seq for seq in ended if seq > mended.done_seq]
    assert mended.done_seq >= min(facts.done_seq, mended.last_seq), "what is done stays done"


@many
@given(conversations())
def test_nothing_is_left_to_do_in_a_thread_that_is_held(given_: tuple[ConversationFacts, frozenset[int]]) -> None:
    facts, messages = given_
    held = after(facts, plan(facts, hold=True), messages)
    assert held.done_seq == held.last_seq
    assert (held.redo, held.is_due, held.waiting) == (0, None, ())
    assert not [turn for turn in held.turns if turn.unfinished]


def test_a_sound_thread_is_not_touched() -> None:
    facts = ConversationFacts(
        last_seq=5,
        done_seq=3,
        reset_seq=1,
        redo=1,
        is_due=True,
        lease_is_wrong=False,
        is_leased=False,
        newest_message=5,
        waiting=(4, 5),
        turns=(
            TurnFacts(id=1, first_seq=1, upto_seq=2, unfinished=True),
            TurnFacts(id=2, first_seq=3, upto_seq=3, unfinished=False),
            TurnFacts(id=3, first_seq=4, upto_seq=5, unfinished=True),
        ),
    )
    assert not changes(facts, plan(facts))
