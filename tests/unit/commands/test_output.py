"""What reaches a person: any text is only shown, JSON holds nothing that a terminal obeys, questions are asked."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatbotctl.commands import output
from chatbotctl.core.errors import ChatbotError, RefusedError

#: What a terminal obeys or a reader is tricked by: C0 but newline, DEL, C1, line separators, direction controls.
_ISOLATES = frozenset("\u2068\u2069")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\x1b\x07\x9b\x00\u202e\u2068\ud800[]\n\r\t"))
HOSTILE = (
    "[/foo]",
    "[bold]not bold[/bold]",
    "[link=https://evil.example]here[/link]",
    ":pile_of_poo:",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\u202eevil",
    "\u2066\u2067 שלום",
    "nul\x00nul",
    "\ud800 half",
    "a" + "\u0301" * 10_000,
    "\r\x08\x08overwritten",
    "\u2028\u2029",
)


@pytest.fixture(autouse=True)
def loud_again() -> Iterator[None]:
    yield
    output.be_quiet(False)


def printed(show: Callable[[], None]) -> str:
    """What `show` writes to stdout, which is no terminal."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        show()
    return out.getvalue()


def noted(show: Callable[[], None]) -> str:
    """What `show` writes to stderr, which is no terminal."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        show()
    return err.getvalue()


def dangers(text: str) -> list[str]:
    """The characters of a printed text that do more than show themselves."""
    return [
        f"U+{ord(char):04X}"
        for char in text
        if (unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") and char != "\n")
        or (char in _DIRECTIONS and char not in _ISOLATES)
    ]


# any text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("show", ["line", "table", "facts", "heading", "speech", "note", "error"])
def test_hostile_text_is_shown_and_not_obeyed(show: str, text: str) -> None:
    shows: dict[str, Callable[[], None]] = {
        "line": lambda: output.line(output.safe_text(text)),
        "table": lambda: output.table(("A",), [(text,)]),
        "facts": lambda: output.facts({"A": text}),
        "heading": lambda: output.heading(text),
        "speech": lambda: output.speech(text, "10:00", text, style="cyan", remark=text, translation=text),
        "note": lambda: output.note(text),
        "error": lambda: output.error(ChatbotError(text, hint=text)),
    }
    shown = printed(shows[show]) + noted(shows[show])
    assert shown
    assert dangers(shown) == []


@settings(deadline=None)  # the first example loads rich
@given(ANY_TEXT)
@example("".join(HOSTILE))
def test_printing_any_text_never_fails_and_emits_no_control_character(text: str) -> None:
    def show() -> None:
        output.line(output.safe_text(text))
        output.table(("A",), [(text,)])
        output.speech(text, "10:00", text, style="cyan", remark=text)

    assert dangers(printed(show)) == []


@given(ANY_TEXT)
def test_one_line_stays_one_line(text: str) -> None:
    assert "\n" not in output.safe_text(text, one_line=True).plain


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_harmless_text_reads_as_it_was_written(text: str) -> None:
    shown = output.safe_text(text).plain
    assert "".join(char for char in shown if char not in _ISOLATES) == text


@given(ANY_TEXT)
def test_isolates_around_right_to_left_text_are_closed_on_every_line(text: str) -> None:
    for line in output.safe_text(text).plain.split("\n"):
        assert line.count("\u2068") == line.count("\u2069")


def test_escape_is_shown_as_its_symbol_and_an_override_by_its_name() -> None:
    assert output.safe_text("\x1b[31m \x9b \u202e \x7f").plain == "␛[31m ⟨U+009B⟩ ⟨U+202E⟩ ␡"


# JSON


@given(ANY_TEXT)
@example("".join(HOSTILE))
def test_json_gives_back_any_text_and_emits_nothing_that_a_terminal_obeys(text: str) -> None:
    value = {"body": text, text: [text]}
    written = printed(lambda: output.json_document(value))
    assert dangers(written) == []
    assert not _ISOLATES & set(written)
    assert json.loads(written) == value


def test_json_keeps_readable_text_readable() -> None:
    assert printed(lambda: output.json_document({"body": "Olá, 世界 🥐"})) == '{\n  "body": "Olá, 世界 🥐"\n}\n'


# tables on a pipe


def test_long_cell_is_not_wrapped_where_no_screen_bounds_it() -> None:
    text = "word " * 200
    assert len(printed(lambda: output.table(("A",), [(text,)])).splitlines()) == 2


def test_long_words_are_whole_on_a_pipe() -> None:
    text = "x" * 5000
    assert text in printed(lambda: output.speech("Ana", "10:00", text, style="cyan"))


def test_speech_leaves_no_blanks_at_the_end_of_lines() -> None:
    shown = printed(lambda: output.speech("Ana", "10:00", "one\n\ntwo", style="cyan", remark="simulated"))
    assert shown == "10:00  Ana  simulated\n  one\n\n  two\n"


# quiet


def test_quiet_leaves_out_notes_and_progress_but_not_data_warnings_and_errors() -> None:
    output.be_quiet(True)

    def work() -> None:
        output.note("a note")
        with output.progress("Working", total=10, unit="things") as advance:
            advance(10)
        output.warning("a warning")
        output.error(ChatbotError("an error"))

    assert noted(work) == "a warning\nError: an error\n"
    assert printed(lambda: output.line("data")) == "data\n"


# questions


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(RefusedError) as raised:
        output.confirm("Remove it?", yes=False)
    assert raised.value.hint is not None
    assert "--yes" in raised.value.hint


def test_yes_answers_the_question_before_it_is_asked() -> None:
    assert noted(lambda: output.confirm("Remove it?", yes=True)) == ""


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), ("YES", True), ("n", False), ("", False), ("yes please", False)]
)
def test_on_a_terminal_only_a_yes_goes_on(answer: str, agreed: bool) -> None:
    script = "from chatbotctl.commands import output; output.confirm('Remove it?', yes=False); print('went on')"
    shown = on_terminal([sys.executable, "-c", script], typed=answer + "\n")
    assert "Remove it? [y/N]" in shown
    assert ("went on" in shown) is agreed


# the terminal's width

LONG = "Serving on port eight thousand and eighty of this machine, for everybody. Stop with Ctrl-C"
PATH = "/" + "very-long-folder/" * 6 + "file.db"


@pytest.mark.parametrize(
    "call", ["note({0!r})", "error(ChatbotError({0!r}, hint={0!r}))", "confirm({0!r}, yes=False)"], ids=lambda c: c[:5]
)
def test_terminal_breaks_lines_between_words(call: str) -> None:
    script = "from chatbotctl.commands import output\nfrom chatbotctl.core.errors import ChatbotError\n"
    shown = on_terminal([sys.executable, "-c", f"{script}output.{call.format(LONG)}"], typed="y\n", TERM="dumb")
    lines = shown.splitlines()
    assert max(len(line) for line in lines) <= 80
    said = " ".join(line.strip() for line in lines)
    assert LONG in said


def test_path_longer_than_the_screen_stays_in_one_piece() -> None:
    script = f"from chatbotctl.commands import output; output.note('Made the database: {PATH}')"
    assert PATH in on_terminal([sys.executable, "-c", script])


def test_pipe_gets_each_line_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert LONG in noted(lambda: output.note(LONG))
    assert LONG in noted(lambda: output.error(ChatbotError(LONG)))


# progress


class _Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_a_plain_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)

    def work() -> None:
        with output.progress("Writing", total=4000, unit="entries") as advance:
            for _ in range(4):
                clock.now += output.PLAIN_PROGRESS_SECONDS / 2
                advance(1000)

    assert noted(work).splitlines() == [
        "Writing: 2,000 of 4,000 entries (400/s)",
        "Writing: 4,000 of 4,000 entries (400/s)",
    ]


def test_progress_on_a_terminal_is_a_bar_with_the_rate() -> None:
    script = (
        "import time\n"
        "from chatbotctl.commands import output\n"
        "with output.progress('Writing', total=1000, unit='entries') as advance:\n"
        "    advance(600)\n"
        "    time.sleep(0.3)\n"
    )
    shown = on_terminal([sys.executable, "-c", script])
    assert "600/1000" in shown
    assert "entries/s" in shown


def test_no_colour_where_it_is_not_wanted() -> None:
    script = "from chatbotctl.commands import output\nfrom chatbotctl.core.errors import ChatbotError\n"
    script += "output.error(ChatbotError('broken'))"
    assert "\x1b[" in on_terminal([sys.executable, "-c", script])
    assert "\x1b[" not in on_terminal([sys.executable, "-c", script], NO_COLOR="1", TERM="dumb")


def on_terminal(command: list[str], *, typed: str = "", **variables: str) -> str:
    """Everything that a command shows on a terminal of its own, on which `typed` is typed."""
    main, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environment, close_fds=True) as process:
        os.close(end)
        os.write(main, typed.encode())
        shown = b""
        # Linux ends a closed terminal with an error instead of an end of file.
        with contextlib.suppress(OSError):
            while chunk := os.read(main, 65536):
                shown += chunk
        os.close(main)
        process.wait()
    return shown.decode()
