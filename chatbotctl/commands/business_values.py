"""What an operator may type for a business -> the values to store. Used by `business add` and `business update`.

Everything is checked here, before a database opens. A refusal is a RefusedError that names the option and says what is
allowed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chatbotctl.core.addresses import normalise
from chatbotctl.core.errors import AlreadyExists, RefusedError
from chatbotctl.core.language_tag import language_tag
from chatbotctl.core.web_address import is_web_address

if TYPE_CHECKING:
    from chatbotctl.core.records.business import Backend, Business, History, Layout

#: Characters, as the columns have them (storage/schema.py).
LONGEST_NAME = 80
LONGEST_ID = 120
#: Characters: an apology is one WhatsApp message.
LONGEST_APOLOGY = 1600
#: Characters of a line that only colleagues read.
LONGEST_REASON = 500
#: Characters of a web address that servers and proxies take.
LONGEST_URL = 2000
#: Characters. They are sent with every message and paid for each time; OpenAI takes up to 256,000.
LONGEST_INSTRUCTIONS = 100_000

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_MODEL = re.compile(r"[A-Za-z0-9][\w./:@+-]*", re.ASCII)
_SLACK_USER = re.compile(r"[UW][A-Z0-9]{1,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The options as they were typed; None: not given."""

    backend: Backend | None = None
    model: str | None = None
    base_url: str | None = None
    instructions: str | None = None
    instructions_file: Path | None = None
    assistant_id: str | None = None
    vector_stores: Sequence[str] | None = None
    history: History | None = None
    language: str | None = None
    apology: str | None = None
    max_message_chars: int | None = None
    slack_users: Sequence[str] | None = None
    slack_layout: Layout | None = None

    def values(self) -> dict[str, object]:
        """What is to be stored of what was given, by the Business record's names.

        Raises RefusedError, or NotFoundError when there is no instructions file.
        """
        values: dict[str, object] = {
            "backend": self.backend and self.backend.value,
            "model": None if self.model is None else _matching("--model", self.model, _MODEL, "a model's name"),
            "base_url": None if self.base_url is None else _url(self.base_url),
            "instructions": self._told(),
            "assistant_id": None
            if self.assistant_id is None
            else _matching("--assistant-id", self.assistant_id, _ID, "an assistant's id"),
            "vector_store_ids": self.vector_stores and _vector_stores(self.vector_stores),
            "history": self.history and self.history.value,
            "language": None if self.language is None else _language(self.language),
            "apology": None if self.apology is None else _text("--apology", self.apology, LONGEST_APOLOGY),
            "max_message_chars": self.max_message_chars,
            "slack_user_ids": self.slack_users and _slack_users(self.slack_users),
            "slack_layout": self.slack_layout and self.slack_layout.value,
        }
        return {name: value for name, value in values.items() if value not in (None, [])}

    def _told(self) -> str | None:
        if self.instructions is not None and self.instructions_file is not None:
            raise RefusedError("--instructions and --instructions-file exclude each other.", hint="Give one of them.")
        if self.instructions_file is not None:
            return _told_by(self.instructions_file)
        if self.instructions is None:
            return None
        return _some("--instructions", _text("--instructions", self.instructions, LONGEST_INSTRUCTIONS))


def business_name(typed: str) -> str:
    """The name that is stored: letters of any script, digits, `-`, `_` and `.`, so that it never needs quoting."""
    name = unicodedata.normalize("NFC", typed)
    allowed = bool(name) and all(char in "-_." or unicodedata.category(char)[0] in "LMN" for char in name)
    if not (allowed and unicodedata.category(name[0])[0] in "LN" and len(name) <= LONGEST_NAME):
        short = re.sub(r"[\W_]+", "-", name).strip("-").lower()[:40].strip("-")
        raise RefusedError(
            f"{_shown(typed)} cannot be a business's name: it begins with a letter or a digit and has letters, digits, "
            f"`-`, `_` and `.` only, up to {LONGEST_NAME}.",
            hint=short or "luna-bakery",
        )
    return name


def number(typed: str) -> str:
    """The number as it is stored. Raises RefusedError."""
    return normalise(typed)


def one_line_reason(typed: str) -> str:
    """What `--reason` says, as it is stored: one line. Raises RefusedError."""
    reason = " ".join(_text("--reason", typed, LONGEST_REASON).split())
    if not reason:
        raise RefusedError("--reason is empty.", hint="Say why, for your colleagues; customers never see it.")
    return reason


def require_history_fits(history: object, backend: object) -> None:
    """Raise RefusedError when `--history local` is asked for where it means nothing; None is `openai`'s default."""
    if history == "local" and backend not in (None, "openai"):
        raise RefusedError(
            f"--history local is for --backend openai only; {backend} decides itself where the past is kept.",
            hint="Leave --history out.",
        )


def require_free(name: str, known: Sequence[Business]) -> None:
    """Raise AlreadyExists when a business has this name in other letters: nobody could tell the two apart."""
    for business in known:
        if business.name != name and business.name.casefold() == name.casefold():
            raise AlreadyExists(
                f"There is already a business called {business.name!r}; {name!r} is too much like it.",
                hint="Choose another name.",
            )


def _told_by(path: Path) -> str:
    """The text of an instructions file."""
    from chatbotctl.core.upkeep.operator_file import read_at_most

    # A character is up to 4 bytes in UTF-8: whatever has more bytes is too long, and is not read.
    content = read_at_most(path, LONGEST_INSTRUCTIONS * 4 + 1)
    if len(content) > LONGEST_INSTRUCTIONS * 4:
        raise _too_long(str(path), LONGEST_INSTRUCTIONS)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise RefusedError(
            f"{path} is not a UTF-8 text.", hint="Save it as UTF-8, or give the text by --instructions."
        ) from exc
    told = _text(str(path), text.replace("\r\n", "\n"), LONGEST_INSTRUCTIONS)
    if not told:
        raise RefusedError(f"{path} is empty.", hint="Write into it what the assistant is to be told.")
    return told


def _text(what: str, text: str, longest: int) -> str:
    """`text`, stripped, unless it has what no store or terminal should get."""
    stripped = text.strip()
    if len(stripped) > longest:
        raise _too_long(what, longest)
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in stripped):
        raise RefusedError(
            f"{what} has characters that are no text.", hint="Leave out all control characters but line ends and tabs."
        )
    return stripped


def _some(option: str, text: str) -> str:
    if not text:
        back = f"`chatbotctl business update NAME --clear {option.removeprefix('--')}`"
        raise RefusedError(f"{option} is empty.", hint=f"Leave it out; {back} takes back what it has set.")
    return text


def _too_long(what: str, longest: int) -> RefusedError:
    return RefusedError(f"{what} is too long: {longest:,} characters are allowed.", hint="Shorten it.")


def _matching(option: str, typed: str, pattern: re.Pattern[str], what: str) -> str:
    value = _some(option, typed.strip())
    if len(value) > LONGEST_ID or not pattern.fullmatch(value):
        raise RefusedError(
            f"{option} {_shown(typed)} is not {what} (up to {LONGEST_ID} characters, no spaces).",
            hint="Copy it from the AI provider's pages.",
        )
    return value


def _url(typed: str) -> str:
    value = _some("--base-url", typed.strip())
    if not is_web_address(value) or len(value) > LONGEST_URL:
        raise RefusedError("--base-url is not an http or https address.", hint="Write it like https://host/v1.")
    if "@" in urlsplit(value).netloc:
        raise RefusedError(
            "--base-url has a user name or password in it, which would be shown with the business.",
            hint="Keep the key with `chatbotctl business credentials set NAME openai`.",
        )
    return value.rstrip("/")


def _language(typed: str) -> str:
    tag = language_tag(_some("--language", typed.strip()))
    if tag is None:
        raise RefusedError(
            f"--language {_shown(typed)} is not a language tag.", hint="Write it like en, de, pt-BR or zh-Hant."
        )
    return tag


def _vector_stores(typed: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_matching("--vector-store", one, _ID, "a vector store's id") for one in typed))


def _slack_users(typed: Sequence[str]) -> tuple[str, ...]:
    users = [one.strip() for one in typed]
    for one in users:
        if not _SLACK_USER.fullmatch(one):
            raise RefusedError(
                f"--slack-user {_shown(one)} is not a Slack user's id.",
                hint="Write it like U012AB3CD: in Slack, open the profile, then `Copy member ID`.",
            )
    return tuple(dict.fromkeys(users))


def _shown(typed: str) -> str:
    """What was typed, short and on one line, for an error."""
    line = "".join(char if char.isprintable() else "�" for char in typed)
    return f"`{line}`" if len(line) <= 60 else f"`{line[:57]}...`"
