"""A thread as a person likes to read it, and its messages as JSON. Used by `thread show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chatbotctl.commands import moments, output
from chatbotctl.core.addresses import bare, named

if TYPE_CHECKING:
    from chatbotctl.core.records.conversation import ThreadSummary, TranscriptEntry
    from chatbotctl.core.records.turn import FailedTurn

#: Colour of each author's name.
_STYLES = {"customer": "cyan", "assistant": "green", "operator": "magenta", "system": "white"}
_NAMES = {"assistant": "Assistant", "operator": "Operator", "system": "Automatic line"}

#: State or delivery status -> what is said about an outbound message. What went well needs no word.
_REMARKS = {
    "ready": "not sent yet",
    "sending": "being sent",
    "failed": "not delivered",
    "undelivered": "not delivered",
    "unknown": "perhaps not delivered",
    "withdrawn": "withdrawn, never sent",
    "printed": "printed, never sent",
}


def as_json(entry: TranscriptEntry) -> dict[str, object]:
    """A message as JSON gives it; the keys are stable."""
    return {
        "direction": "inbound" if entry.author.value == "customer" else "outbound",
        "author": entry.author.value,
        "body": entry.body,
        "sid": entry.sid,
        "status": entry.status,
        "at": moments.iso(entry.at),
    }


def show(
    found: ThreadSummary, entries: Sequence[TranscriptEntry], resets: Sequence[float], failed: Sequence[FailedTurn]
) -> None:
    """Print who talks to whom, then what was said, day by day; resets are marked, and why the assistant failed.

    Arguments:
        entries: the whole thread or its end, oldest first.
        resets: when the assistant was made to start anew (seconds since 1970), oldest first.
        failed: the turns without an answer. The reason stands beside the line that the customer read instead, or beside
            the customer's own words when there was none.
    """
    by_apology = {turn.apology_at: turn.message for turn in failed if turn.apology_at is not None}
    by_message = {turn.upto_seq: turn.message for turn in failed if turn.apology_at is None}
    _show_head(found)
    today = ""
    for at, entry in _merged(entries, resets):
        if (day := moments.day(at)) != today:
            today = day
            output.line("")
            output.heading(f"── {day} ──")
        output.line("")
        if entry is None:
            output.heading(f"── {moments.clock(at)}  reset: the assistant sees nothing from before this ──")
        else:
            why = by_apology.get(entry.at) if entry.author.value == "system" else by_message.get(entry.seq or 0)
            _show_entry(found, entry, f"the assistant failed: {why}" if why else None)


def _merged(
    entries: Sequence[TranscriptEntry], resets: Sequence[float]
) -> Iterator[tuple[float, TranscriptEntry | None]]:
    """What was said in its order, with the resets (None) where they came. Those before the first entry are left out."""
    waiting = [at for at in resets if not entries or at >= entries[0].at]
    for entry in entries:
        while waiting and waiting[0] <= entry.at:
            yield waiting.pop(0), None
        yield entry.at, entry
    for at in waiting:
        yield at, None


def _show_head(found: ThreadSummary) -> None:
    thread = found.conversation
    held = "an operator: the assistant stays quiet" if thread.held_by.value == "operator" else "the assistant"
    output.facts(
        {
            "Thread": thread.id,
            "Customer": named(thread.profile_name, thread.client_address),
            "Business": f"{found.business_name} ({bare(thread.business_address)})",
            "AI thread": thread.ai_thread,
            "Answered by": held,
            "Messages": found.messages,
        }
    )


def _show_entry(found: ThreadSummary, entry: TranscriptEntry, failure: str | None) -> None:
    from chatbotctl.core.records.message import kind_in_words

    name = _NAMES.get(entry.author.value) or found.conversation.profile_name or "Customer"
    remarks = ["simulated"] if entry.simulated else []
    what = kind_in_words(entry.kind) if entry.kind != "text" else ""
    text = entry.body
    if what and not text.strip():
        text = f"[{what}]"
    elif what:
        remarks.append(f"with {what[0].lower()}{what[1:]}")
    if entry.author.value != "customer" and (remark := _REMARKS.get(entry.status)):
        remarks.append(f"{remark} ({entry.error_code})" if entry.error_code else remark)
    if failure:
        remarks.append(failure)
    output.speech(
        name,
        moments.clock(entry.at),
        text,
        style=_STYLES[entry.author.value],
        remark=" · ".join(remarks),
        translation=entry.translation,
    )
