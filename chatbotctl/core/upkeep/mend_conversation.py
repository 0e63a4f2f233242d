"""Decides how a conversation whose counters and turns contradict each other is put right. No SQL here.

The rule behind all of it: what may have been answered is not answered again by itself. So `done_seq` only rises (unless
there are not that many messages), and what was never brought to an end at or below it becomes a dead letter: nothing is
lost, nothing is said to a customer by surprise, and `queue retry` does it all the same where that is right.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatbotctl.core.records.mending import ConversationFacts, DueTime, Mending, TurnFacts


def plan(facts: ConversationFacts, *, hold: bool = False) -> Mending:
    """What is to be written; for a sound conversation that is what it says already.

    Arguments:
        hold: also make everything that is pending a dead letter (a restored backup: it may have been answered since).
    """
    last = max([facts.newest_message, *(turn.upto_seq for turn in facts.turns)])
    again, overtaken = _gone_on_with(facts, hold=hold)
    ended = [turn.id for turn in overtaken]
    done = max([min(facts.done_seq, last), *(turn.upto_seq for turn in facts.turns if not turn.unfinished)])
    ahead = [turn for turn in facts.turns if turn.unfinished and turn not in again and turn not in overtaken]
    begun = None if hold else _begun(ahead, done)
    if begun is None:
        ended += [turn.id for turn in ahead]
        done = max([done, *(turn.upto_seq for turn in ahead)])
    if hold:
        done = last
    elif begun is None:
        # Messages that are gone stand in nobody's way.
        done = max(done, min((seq for seq in facts.waiting if seq > done), default=done + 1) - 1)
    return Mending(
        last_seq=last,
        done_seq=done,
        reset_seq=min(facts.reset_seq, last),
        redo=len(again),
        due=_due(facts, pending=last > done or bool(again)),
        clear_lease=facts.lease_is_wrong,
        ended=tuple(ended),
        uncovered=tuple(_uncovered(facts.turns, done)),
    )


def changes(facts: ConversationFacts, wanted: Mending) -> bool:
    """Whether anything of the conversation is not as it is to be."""
    counters = (wanted.last_seq, wanted.done_seq, wanted.reset_seq, wanted.redo)
    return (
        counters != (facts.last_seq, facts.done_seq, facts.reset_seq, facts.redo)
        or wanted.due is not DueTime.KEEP
        or wanted.clear_lease
        or bool(wanted.ended or wanted.uncovered)
    )


def _gone_on_with(facts: ConversationFacts, *, hold: bool) -> tuple[list[TurnFacts], list[TurnFacts]]:
    """The unfinished turns at or below done_seq: those that an operator has gone on with, and those that nobody wants.

    Where there are more of them than were asked for, nobody knows which those were: none is gone on with.
    """
    below = [turn for turn in facts.turns if turn.unfinished and turn.upto_seq <= facts.done_seq]
    if hold or len(below) > facts.redo:
        return [], below
    return [turn for turn in below if turn.complete], [turn for turn in below if not turn.complete]


def _begun(ahead: list[TurnFacts], done: int) -> TurnFacts | None:
    """The turn that a worker may go on with: the next one, if it is the only one and all its messages are there."""
    if len(ahead) == 1 and ahead[0].first_seq == done + 1 and ahead[0].upto_seq > done and ahead[0].complete:
        return ahead[0]
    return None


def _due(facts: ConversationFacts, *, pending: bool) -> DueTime:
    if not pending:
        return DueTime.KEEP if facts.is_due is None else DueTime.NEVER
    return DueTime.KEEP if facts.is_due else DueTime.NOW


def _uncovered(turns: Iterable[TurnFacts], done: int) -> Iterable[tuple[int, int]]:
    covered = 0
    for turn in sorted(turns, key=lambda turn: turn.first_seq):
        if turn.first_seq > done:
            break
        if turn.first_seq > covered + 1:
            yield covered + 1, turn.first_seq - 1
        covered = max(covered, turn.upto_seq)
    if covered < done:
        yield covered + 1, done
