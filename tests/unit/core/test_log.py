"""What is logged: JSON lines for machines, readable lines for people, and nothing of the libraries' chatter."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import pytest
import structlog

from chatbotctl.core import log


class Terminal(io.StringIO):
    """Standard error on a screen."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a test sets up for the whole process is taken back."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@contextmanager
def logged(stream: io.StringIO | None = None, **options: Any) -> Iterator[io.StringIO]:
    """Standard error, a pipe unless another stream is given, with logs set up for it."""
    with redirect_stderr(stream or io.StringIO()) as written:
        log.configure(**options)
        yield written


def test_event_off_a_terminal_is_one_json_line() -> None:
    with logged() as stderr:
        log.event("message_stored", sid="SM1", conversation=7)

    (line,) = stderr.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "message_stored", "level": "info", "sid": "SM1", "conversation": 7}


def test_line_end_in_a_value_starts_no_new_line() -> None:
    with logged() as stderr:
        log.event("turn_ended", business='evil\n{"event": "forged"}\r\u2028')

    assert len(stderr.getvalue().splitlines()) == 1


@pytest.mark.parametrize("format", ["console", "json"])
def test_value_is_shown_and_not_obeyed(format: str) -> None:  # noqa: A002
    with logged(format=format) as stderr:
        log.event("signature_refused", url="http://a\x1b]0;b\x07\x7f\x9b\u202e\ud800/ü", other=["\x1b"])

    written = stderr.getvalue().replace("\\\\", "\\")
    for escaped in ("a\\x1b]0;b\\x07", "\\x7f", "\\x9b", "\\u202e", "\\ud800"):
        assert escaped in written
    for obeyed in ("\x1b]0;", "\x07", "\x7f", "\x9b", "\u202e", "\ud800"):
        assert obeyed not in written


def test_event_on_a_terminal_is_readable() -> None:
    with logged(Terminal()) as terminal:
        log.event("message_stored", sid="SM1")

    assert "message_stored" in terminal.getvalue()
    assert not terminal.getvalue().lstrip().startswith("{")


def test_json_can_be_had_on_a_terminal() -> None:
    with logged(Terminal(), format="json") as terminal:
        log.event("a")

    assert json.loads(terminal.getvalue())["event"] == "a"


def test_words_can_be_had_off_a_terminal() -> None:
    with logged(format="console") as pipe:
        log.event("turn_ended")

    assert "turn_ended" in pipe.getvalue()
    assert not pipe.getvalue().startswith("{")


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_only_events_of_the_level_and_above_are_written(level: str, lines: int) -> None:
    with logged(level=level) as stderr:
        for name in ("debug", "info", "warning", "error"):
            log.event(name, level=name)  # type: ignore[arg-type]

    assert len(stderr.getvalue().splitlines()) == lines


def test_nothing_is_written_before_anybody_asked_for_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is a command's data."""
    structlog.reset_defaults()

    log.event("message_stored", level="error", sid="SM1")

    assert capsys.readouterr() == ("", "")


def test_libraries_warn_by_their_name_alone_and_never_with_a_body() -> None:
    with logged(level="debug") as stderr:
        logging.getLogger("urllib3").warning("https://user:canary@host/path")
        logging.getLogger("urllib3").info("canary")
        for chatty in ("httpx2", "openai", "twilio.http_client", "slack_sdk"):
            logging.getLogger(chatty).error("canary")

    assert stderr.getvalue() == "WARNING urllib3\n"


class FullDisk(io.StringIO):
    """Standard error in a file for which there is no room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_costs_whoever_logs_nothing() -> None:
    with logged(FullDisk()):
        log.event("storage_unavailable", level="error")
