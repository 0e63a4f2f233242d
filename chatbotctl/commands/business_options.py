"""Options about businesses that several commands share, with live names for the shell's completion."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.commands.session import Session
from chatbotctl.core.records.business import Backend, History, Layout

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from chatbotctl.core.records.business import Business


def known_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of businesses that begin with what was typed; none where they cannot be looked up."""
    from chatbotctl.core.errors import ChatbotError
    from chatbotctl.core.storage import businesses

    # The shell runs this instead of the command: the root callback has made no session.
    config = ctx.find_root().params.get("config")
    session = Session(config=Path(config) if config else None, quiet=True)
    try:
        with session.core() as core, core.database.read() as tx:
            return [known.name for known in businesses.listed(tx) if known.name.startswith(incomplete)]
    except ChatbotError:
        return []


def only_of(tx: Connection, name: str | None) -> Business | None:
    """The business that `--business` names, to which a list is narrowed, if any. Raises BusinessNotFound."""
    from chatbotctl.core.storage import businesses

    return None if name is None else businesses.by_name(tx, name)


class Clearable(enum.StrEnum):
    """What `business update --clear` sets back."""

    MODEL = "model"
    BASE_URL = "base-url"
    INSTRUCTIONS = "instructions"
    ASSISTANT_ID = "assistant-id"
    VECTOR_STORE = "vector-store"
    LANGUAGE = "language"
    APOLOGY = "apology"
    MAX_MESSAGE_CHARS = "max-message-chars"
    SLACK_USER = "slack-user"
    SLACK_LAYOUT = "slack-layout"


NameOf = Annotated[str, typer.Argument(metavar="NAME", help="The business's name.", autocompletion=known_names)]
BusinessOption = Annotated[
    str | None, typer.Option("--business", metavar="NAME", help="Only this business's.", autocompletion=known_names)
]

BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        help="Who answers: OpenAI's Responses, any server with chat completions, one with threads and runs, or the "
        "knowledge files alone, offline.",
    ),
]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Instead of openai.model.")]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The AI server, instead of openai.base_url.")
]
InstructionsOption = Annotated[
    str | None, typer.Option("--instructions", metavar="TEXT", help="What the assistant is told with every message.")
]
InstructionsFileOption = Annotated[
    Path | None, typer.Option("--instructions-file", metavar="FILE", help="The same from a UTF-8 file.")
]
AssistantIdOption = Annotated[
    str | None, typer.Option("--assistant-id", metavar="ID", help="For --backend threads: the server's assistant.")
]
VectorStoreOption = Annotated[
    list[str] | None,
    typer.Option("--vector-store", metavar="ID", help="A vector store to search; may be repeated."),
]
HistoryOption = Annotated[
    History | None,
    typer.Option(
        "--history", help="For --backend openai: local for servers that keep no conversations.  [default: provider]"
    ),
]
LanguageOption = Annotated[
    str | None,
    typer.Option("--language", metavar="TAG", help="The language its people work in, like en or pt-BR."),
]
ApologyOption = Annotated[
    str | None,
    typer.Option(
        "--apology", metavar="TEXT", help='Sent when no answer can be had, instead of replies.apology; "": nothing.'
    ),
]
MaxMessageCharsOption = Annotated[
    int | None,
    typer.Option("--max-message-chars", metavar="N", min=1, max=65536, help="Instead of limits.max_message_chars."),
]
SlackUserOption = Annotated[
    list[str] | None,
    typer.Option("--slack-user", metavar="ID", help="Whom to invite and to alert in Slack; may be repeated."),
]
SlackLayoutOption = Annotated[
    Layout | None,
    typer.Option("--slack-layout", help="A Slack channel, or a Slack thread, for each of its threads."),
]
KeepUploadsOption = Annotated[
    bool, typer.Option("--keep-uploads", help="Leave the copies at the AI provider where they are.")
]
