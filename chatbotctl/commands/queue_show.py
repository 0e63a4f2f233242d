"""`chatbotctl queue show`: all about one entry of the queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands import moments, output
from chatbotctl.commands import queue_words as words
from chatbotctl.commands.options import JsonOption
from chatbotctl.commands.session import session_of
from chatbotctl.core.addresses import bare

if TYPE_CHECKING:
    from chatbotctl.core.records.backlog import Details, ReplyPart

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="12 a turn, s12 a Slack post, t12 a waiting thread.")]


def show(ctx: typer.Context, id_: IdArgument, as_json: JsonOption = False) -> None:
    """Show all about one entry: the messages, the reply, what became of it, and what to do.

    Example: chatbotctl queue show 12
    """
    from chatbotctl.core.errors import NotFoundError
    from chatbotctl.core.storage import entry_details

    wanted = words.entry_id(id_)
    with session_of(ctx).core() as core, core.database.read() as tx:
        found = entry_details.find(tx, wanted)
    if found is None:
        raise NotFoundError(
            f"There is no {words.named(wanted)} in the queue.", hint="`chatbotctl queue list` shows what there is."
        )
    if as_json:
        output.json_document(_as_json(found))
        return
    _show_head(found)
    _show_said(found)
    if found.parts:
        output.line("")
        output.table(
            ("PART", "BY", "STATE", "CODE", "SID"),
            [(part.part, part.author.value, _state(part), part.error_code, part.sid) for part in found.parts],
            right=("PART",),
        )
    if found.events:
        output.line("")
        output.table(
            ("AT", "EVENT", "DETAIL"),
            [(moments.exactly(each.at), each.kind, _in_short(each.detail)) for each in found.events],
        )


def _as_json(found: Details) -> dict[str, object]:
    """The keys are stable."""
    from chatbotctl.commands import transcript
    from chatbotctl.commands.queue import as_listed

    return {
        **as_listed(found.entry),
        "error": found.error,
        "hint": words.what_to_do(found.entry),
        "messages": [transcript.as_json(message) for message in found.messages],
        "title": found.title,
        "text": found.text,
        "translation": found.translation,
        "needs_human": found.needs_human,
        "model": found.model,
        "parts": [
            {
                "part": part.part,
                "author": part.author.value,
                "state": part.state.value,
                "sid": part.sid,
                "delivery_status": part.delivery_status,
                "code": part.error_code,
                "body": part.body,
            }
            for part in found.parts
        ],
        "events": [
            {
                "at": moments.iso(each.at),
                "kind": each.kind,
                "message_sid": each.message_sid,
                "detail": dict(each.detail),
            }
            for each in found.events
        ],
    }


def _show_head(found: Details) -> None:
    entry = found.entry
    head: dict[str, object] = {
        "What": words.named(entry.id) + (", simulated" if entry.simulated else ""),
        "State": words.state(entry),
        "Business": entry.business_name,
        "Customer": f"{bare(entry.customer)} (thread {entry.conversation_id})",
        "Age": words.duration(entry.age),
        "Tries": entry.attempts,
    }
    if entry.code or entry.reason:
        head["Failed with"] = words.failure(entry)
    if found.error:
        head["Why"] = found.error
    if help_ := words.what_to_do(entry):
        head["What to do"] = help_
    if found.needs_human:
        head["For a person"] = found.needs_human
    if found.model:
        head["Model"] = found.model
    output.facts(head)


def _show_said(found: Details) -> None:
    from chatbotctl.core.records.message import kind_in_words

    for message in found.messages:
        output.line("")
        text = message.body if message.body.strip() else f"[{kind_in_words(message.kind)}]"
        output.speech(
            "Customer",
            moments.clock(message.at),
            text,
            style="cyan",
            remark=message.sid or "",
            translation=message.translation,
        )
    for part in found.parts:
        if part.author.value == "system":
            output.line("")
            output.speech("Automatic line", f"part {part.part}", part.body, style="white")
    if found.text is not None:
        output.line("")
        who = found.title if found.title is not None else "Assistant"
        at = moments.clock(found.entry.since) if found.title is not None else "reply"
        output.speech(who, at, found.text, style="green", translation=found.translation)


def _state(part: ReplyPart) -> str:
    return f"{part.state} ({part.delivery_status})" if part.delivery_status else part.state


def _in_short(detail: Mapping[str, object]) -> str:
    rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in detail.items()}
    text = json.dumps(rounded, ensure_ascii=False)
    return "" if text == "{}" else text.strip("{}").replace('"', "")
