"""What `db check` can find, in words: what is wrong, what `db repair` does about it, or what a person has to do.

The codes are stable: they are part of `db check --json`. How each is found stands in storage/consistency.py and
storage/integrity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One way in which a database can be wrong."""

    #: One sentence.
    problem: str
    #: What `db repair` does; None: it cannot mend this.
    remedy: str | None = None
    #: What a person has to do, and why `db repair` does not.
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with some rows of one table, or with the database itself."""

    code: str
    #: The table whose ids they are; None: of the database itself.
    table: str | None
    #: All ids, in order; of the database itself what it says.
    places: Sequence[int | str]

    @property
    def kind(self) -> Kind:
        """What it means."""
        return KINDS[self.code]


_RESTORE = "Restore a backup with `chatbotctl db restore`."
_LOOK = "`chatbotctl thread show ID` shows the thread."
_NOT_MADE_UP = "What was stored there is gone, and cannot be made up. Restore a backup if it is needed."
_DEAD_LETTERS = "They become dead letters, which `chatbotctl queue retry` runs again."
_TENANTS = "Nothing is moved: find out whose it is first, for one business must not see another's."

KINDS: dict[str, Kind] = {
    # the database itself
    "damaged": Kind("SQLite's own check finds the file damaged.", advice=_RESTORE),
    "invalid_index": Kind(
        "PostgreSQL does not use an index, because building it broke off.",
        advice="As the tables' owner in psql: REINDEX INDEX CONCURRENTLY NAME.",
    ),
    "unenforced": Kind(
        "PostgreSQL does not hold the rows to a constraint, or has never held all of them to it.",
        advice="As the tables' owner in psql: ALTER TABLE TABLE VALIDATE CONSTRAINT NAME, and ENABLE TRIGGER ALL.",
    ),
    # conversations
    "last_seq_wrong": Kind(
        "The count of messages (last_seq) is not the number of the newest one: the next message could not be stored, "
        "or would never be answered.",
        remedy="The count is set to the newest message's number.",
    ),
    "messages_missing": Kind("Messages are missing between others.", advice=_NOT_MADE_UP),
    "done_seq_too_high": Kind(
        "More messages are said to be done (done_seq) than there are: the next ones would never be answered.",
        remedy="What is done is set to what there is.",
    ),
    "reset_seq_too_high": Kind(
        "A reset reaches beyond the newest message: the assistant would not see the next ones.",
        remedy="The reset ends at the newest message.",
    ),
    "turns_overlap": Kind(
        "Two turns cover the same message: it may have been answered twice.",
        advice=f"What was said was said. {_LOOK}",
    ),
    "turn_missing": Kind("Messages are said to be done, but no turn covers them.", remedy=_DEAD_LETTERS),
    "turn_ended_ahead": Kind(
        "A turn has ended that is not counted as done: its messages would be answered a second time.",
        remedy=f"It is counted as done. Messages before it that were never answered: {_DEAD_LETTERS.lower()}",
    ),
    "turn_out_of_place": Kind(
        "A turn is under way that is not the next one: messages before it would be answered in its place.",
        remedy="It becomes a dead letter, which `chatbotctl queue retry` runs again.",
    ),
    "turn_lacks_messages": Kind(
        "A turn is under way whose messages are not all there.",
        remedy="It becomes a dead letter, which `chatbotctl queue drop` settles.",
    ),
    "next_message_missing": Kind(
        "The message that is next is not there, and nothing behind it would ever be answered.",
        remedy="What is missing is passed over; the messages behind it are answered.",
    ),
    "redo_wrong": Kind(
        "The count of ended turns that are run again (redo) is not the number of those turns.",
        remedy=f"It is put right. Turns that nobody is known to have asked for: {_DEAD_LETTERS.lower()}",
    ),
    "never_due": Kind(
        "Something is pending, but it is never due: no worker would find it.",
        remedy="It is due now, and is answered as soon as a worker runs.",
    ),
    "due_for_nothing": Kind("Nothing is pending, but it is due.", remedy="It is not due any more."),
    "due_too_late": Kind(
        "Something is pending that is due only hours from now: a clock was wrong.",
        remedy="It is due now, and is answered as soon as a worker runs.",
    ),
    "overdue": Kind(
        "Something has been due for over an hour, and no worker is at it.",
        advice="Nothing is wrong with what is stored. See that `chatbotctl serve` or `chatbotctl worker` runs, and "
        "what its log says.",
    ),
    "turn_not_begun": Kind(
        "Messages wait whose turn cannot be begun: a row that it needs cannot be read, or is not there.",
        advice="It is tried again by itself, every few minutes in the end; the log's event turn_not_begun names the "
        "fault. Where nothing else is found in the thread, a row of it, or of its business, holds what this version "
        "cannot read: it was edited by hand, or written by a newer version.",
    ),
    "lease_too_long": Kind(
        "A worker's lease ends only hours from now: nobody else would take the thread over.",
        remedy="The lease is taken away.",
    ),
    "half_a_lease": Kind("A lease has no owner, or an owner has no lease.", remedy="What is left of it is taken away."),
    # the WhatsApp outbox
    "part_left_behind": Kind(
        "Part of a reply is still to leave, but its turn has ended: it never will.",
        remedy="It is marked as failed, or as withdrawn where its turn was. Nothing is sent.",
    ),
    "part_still_leaving": Kind(
        "Part of a reply has been leaving for ten minutes, and its turn has ended: nobody knows whether it was sent.",
        remedy="It is marked as of unknown fate. Nothing is sent.",
    ),
    "part_of_another_thread": Kind("Part of a reply belongs to the turn of another thread.", advice=_TENANTS),
    "part_missing": Kind("Parts of a reply are missing between others.", advice=_NOT_MADE_UP),
    # the Slack outbox
    "post_held_for_nobody": Kind(
        "A Slack post is called under way, but nobody has been posting it for an hour, or may for hours.",
        remedy="It is owed again. At worst it stands in Slack twice; nothing is sent to a customer.",
    ),
    "post_put_off_too_far": Kind(
        "A Slack post is put off for hours, and all that follow it in its channel: a clock was wrong.",
        remedy="It is due now.",
    ),
    "post_in_wrong_lane": Kind(
        "A Slack post waits in the lane of another thread or business.",
        remedy="It moves to the lane of its own.",
    ),
    "post_of_another_thread": Kind("A Slack post tells of another thread's message.", advice=_TENANTS),
    # what belongs to nobody
    "client_of_nobody": Kind(
        "A customer's number is stored, but no business has a thread with it: the business was removed.",
        remedy="It is deleted. There are no messages with it.",
    ),
    "orphan": Kind(
        "A row belongs to something that is not there.",
        advice=f"It is not deleted: it may be all that is left of what it belonged to. {_RESTORE}",
    ),
}
