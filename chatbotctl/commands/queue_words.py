"""What the `queue` commands share: ids as they are typed, durations as people read them, what helps with a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chatbotctl.core.records.backlog import Entry, EntryId

#: Our own code, or the vendor's -> what an operator does about it.
_HELP = {
    "assistant_failed": "see that the AI provider answers again (`chatbotctl simulate`), then retry it.",
    "assistant_not_usable": "give the assistant what it lacks (`chatbotctl business show NAME`), then retry it.",
    "thread_gone": "see that key and base URL belong together, then retry it.",
    "business_disabled": "enable the business, then retry it; or drop it.",
    "configuration": "mend the settings (`chatbotctl config validate`), then retry it.",
    "secret_key": "put the key back that credentials were stored with, then retry it.",
    "send_failed": "see that Twilio takes messages again, then retry it: what was sent is not sent twice.",
    "restored": "see in Slack or at Twilio whether it was answered since; retry it if not, or drop it.",
    "left_behind": "nobody has answered it: retry it, or drop it.",
    "error": "see the log's `turn_crashed`, then retry it.",
    "63016": "the customer last wrote more than 24 hours ago: retry it once they have written again, or drop it.",
    "21610": "the customer opted out: drop it.",
    "63014": "the customer blocked the business: drop it.",
    "63024": "the number is not on WhatsApp: drop it.",
    "20003": "mend the Twilio credentials, then retry it.",
    "invalid_auth": "mend the Slack token, then retry it.",
    "crashed": "see the log's `slack_postponed`, then retry it.",
}
_OTHERWISE = "mend what the code names, then retry it; or drop it."


def entry_id(typed: str) -> EntryId:
    """The entry that an operator names. Raises NotFoundError."""
    from chatbotctl.core.errors import NotFoundError
    from chatbotctl.core.records.backlog import EntryId

    id_ = EntryId.parse(typed)
    if id_ is None:
        raise NotFoundError(
            f"`{typed[:40]}` is no id of the queue.",
            hint="A turn's is a number (12), a Slack post's begins with s (s12); `chatbotctl queue list` shows them.",
        )
    return id_


def duration(seconds: float | None) -> str | None:
    """`42 s`, `7 min`, `3 h`, `12 d`: whole ones, rounded down."""
    if seconds is None:
        return None
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def failure(entry: Entry) -> str | None:
    """The codes of a failure in one: `send_failed (63016)`."""
    if entry.reason is not None and entry.reason != entry.code:
        return f"{entry.code} ({entry.reason})" if entry.code else entry.reason
    return entry.code


def state(entry: Entry) -> str:
    """The state, with how long it is postponed, or that an operator has the thread. Slack posts leave all the same."""
    if entry.held and entry.id.kind.value != "slack" and entry.state.value in ("waiting", "postponed"):
        return f"{entry.state} (held)"
    return entry.state if entry.next_in is None else f"{entry.state} ({duration(entry.next_in)})"


def what_to_do(entry: Entry) -> str | None:
    """What an operator can do about a dead letter; None for anything else."""
    if entry.state.value != "dead":
        return None
    help_ = _HELP.get(entry.reason or "") or _HELP.get(entry.code or "") or _OTHERWISE
    return help_[0].upper() + help_[1:]


def named(id_: EntryId) -> str:
    """The entry in a sentence."""
    return {"turn": "turn {}", "slack": "Slack post {}", "thread": "thread {}"}[id_.kind.value].format(id_)
