"""Everything that reaches a person's eyes: tables, JSON, notes, errors, progress, questions. The only user of rich.

Data goes to stdout, all else to stderr. Colour, progress bars and questions only on a terminal (rich minds NO_COLOR,
FORCE_COLOR and TERM=dumb). Text that a customer or a model wrote goes through `safe_text` before it is printed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from chatbotctl.core.errors import ChatbotError

#: Columns that a table may take where nobody's screen bounds it.
PIPE_WIDTH = 10_000
#: Seconds between lines of progress where there is no terminal.
PLAIN_PROGRESS_SECONDS = 5.0

#: What JSON leaves as it is but a terminal obeys or a reader is tricked by.
_JSON_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Direction controls that a text may carry; they are shown, not obeyed.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))


class _Quiet:
    """Whether `--quiet` was given."""

    on = False


def be_quiet(quiet: bool) -> None:
    """Leave out notes and progress from now on; data and errors stay."""
    _Quiet.on = quiet


def _stdout() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False, width=width)


def _stderr() -> Console:
    from rich.console import Console

    return Console(file=sys.stderr, markup=False, highlight=False, emoji=False)


def safe_text(text: str, *, one_line: bool = False) -> Text:
    """`text` so that printing it does nothing but show it.

    Control characters become their symbols (ESC: ␛), direction controls their names, right-to-left text is isolated
    from what stands around it; markup and links mean nothing. With `one_line`, line ends become spaces.
    """
    from rich.text import Text

    shown = "".join(_shown(char, one_line=one_line) for char in text.replace("\r\n", "\n"))
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in shown):
        # Line by line: an isolate ends with its paragraph.
        shown = "\n".join(f"\u2068{line}\u2069" if line else line for line in shown.split("\n"))
    return Text(shown)


def _shown(char: str, *, one_line: bool) -> str:
    if char == "\n":
        return " " if one_line else char
    if char == "\t":
        return " "
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0x80 <= code <= 0x9F or char in _BIDI or char in "\u2028\u2029":
        return f"⟨U+{code:04X}⟩"
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return char


def line(text: str | Text, *, style: str = "") -> None:
    """Print one line of data."""
    _stdout().print(text, style=style, soft_wrap=not sys.stdout.isatty())


def quote(text: str) -> None:
    """Print what a customer or a model wrote, as one result."""
    line(safe_text(text))


def json_document(value: object) -> None:
    """Print one JSON document."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(_JSON_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; `right` names the columns that are numbers. Cells are printed as `safe_text`, None as a dash."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(safe_text("-" if cell is None or cell == "" else str(cell), one_line=True) for cell in row))
    _stdout().print(shown)


def facts(values: Mapping[str, object]) -> None:
    """Print names with their values, one below the other; None and empty ones as a dash."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in values.items():
        shown.add_row(name, safe_text("-" if value is None or value == "" else str(value)))
    _stdout().print(shown)


def heading(text: str) -> None:
    """Print a line that parts what follows from what came before."""
    _stdout().print(safe_text(text, one_line=True), style="dim")


def speech(who: str, at: str, text: str, *, style: str, remark: str = "", translation: str | None = None) -> None:
    """Print what somebody said: a line that tells who and when, and the words under it, indented.

    Arguments:
        remark: what is to be said about it (a failure, say), shown behind the name.
        translation: shown below the words.
    """
    from rich.text import Text

    head = Text.assemble((at, "dim"), "  ", (safe_text(who, one_line=True).plain, f"bold {style}"))
    if remark:
        head.append(f"  {safe_text(remark, one_line=True).plain}", "yellow")
    _stdout().print(head)
    _indented(safe_text(text))
    if translation:
        _indented(Text.assemble(("Translated: ", "dim"), safe_text(translation)))


def _indented(text: Text) -> None:
    """Print `text` two columns from the left, wrapped where a screen bounds it."""
    from rich.text import Text

    console = _stdout()
    lines = text.wrap(console, max(console.width - 2, 1)) if sys.stdout.isatty() else text.split("\n")
    for shown in lines:
        console.print(Text.assemble("  ", shown) if shown else "", soft_wrap=True)


def note(text: str, *, style: str = "") -> None:
    """Tell the person something that is no data; silent with --quiet."""
    if not _Quiet.on:
        _say(safe_text(text), style=style)


def warning(text: str) -> None:
    """Tell the person of a danger; with --quiet too."""
    _say(safe_text(text), style="bold red")


def error(failure: ChatbotError) -> None:
    """Print an error: one sentence, and the next thing to type."""
    from rich.text import Text

    _say(Text.assemble(("Error: ", "bold red"), safe_text(failure.message)))
    if failure.hint:
        _say(Text.assemble(("Try: ", "bold"), safe_text(failure.hint)))


def _say(text: Text, *, style: str = "", end: str = "\n") -> None:
    """Print to stderr, wrapped between words on a terminal; a pipe gets each line whole.

    A word longer than the screen (a path, a URL) is left in one piece, to be copied.
    """
    console = _stderr()
    if sys.stderr.isatty():
        text = _wrapped(text, console.width)
    console.print(text, style=style, end=end, soft_wrap=True)


def _wrapped(text: Text, width: int) -> Text:
    """`text` with line ends between its words. Rich's own wrapping would cut long words."""
    from rich.text import Text

    lines = [
        wrapped
        for line in text.plain.split("\n")
        for wrapped in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return Text("\n".join(lines), spans=list(text.spans))


def confirm(question: str, *, yes: bool) -> None:
    """Go on only when the person agrees, or said --yes. Raises RefusedError otherwise."""
    from chatbotctl.core.errors import RefusedError

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RefusedError(f"{question} Nobody can be asked here.", hint="Say --yes if you mean it.")
    _say(safe_text(f"{question} [y/N]"), end=" ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("Nothing was changed.")


def ask_secret(prompt: str) -> str:
    """Ask for a secret without showing it. On no terminal, read it from stdin."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"{prompt}: ", stream=sys.stderr).strip()
    return sys.stdin.readline().strip()


@contextmanager
def progress(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show how far long work has come; call the result with each number of things that were done.

    On a terminal a bar with rate and time left, elsewhere a plain line now and then. It is an upkeep `Progress`.
    """
    if _Quiet.on:
        yield lambda _: None
    elif _stderr().is_terminal:
        with _bar(what, total, unit) as advance:
            yield advance
    else:
        yield _PlainProgress(what, total, unit).advance


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_stderr(), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")
        start, done = time.monotonic(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - start, 1e-6)
            bar.update(task, advance=count, rate=f"{rate:,.0f} {unit}/s")

        yield advance


class _PlainProgress:
    """A line of progress every few seconds."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._start = 0, time.monotonic()
        self._next = self._start + PLAIN_PROGRESS_SECONDS

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PLAIN_PROGRESS_SECONDS
            of = f" of {self._total:,}" if self._total else ""
            rate = self._done / (now - self._start)
            note(f"{self._what}: {self._done:,}{of} {self._unit} ({rate:,.0f}/s)")


def flush() -> None:
    """Write out what stdout still holds. Raises OSError when it cannot be written, on a full disk, say."""
    if sys.stdout is None or sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has enough
        give_up_unwritten()


def give_up_unwritten() -> None:
    """Give up what stdout does not take: the interpreter would try again at its end, and end with 120."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
