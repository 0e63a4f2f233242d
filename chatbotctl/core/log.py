"""Logs are events: a machine name and ids. Never a message's text, never a full number, never a secret.

`configure` is called once by the process that owns stderr (a command); everything else only calls `event`. Where nobody
called it, events go nowhere: unasked, structlog would write them to stdout, into a command's data.
"""

from __future__ import annotations

import logging
import sys
from concurrent.futures import Future
from typing import Literal

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(*, level: str = "info", format: Literal["auto", "json", "console"] = "auto") -> None:  # noqa: A002
    """Write events of `level` and above to stderr: JSON lines, or readable ones on a terminal (`auto` decides)."""
    import structlog

    readable = format == "console" or (format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through logging: only their warnings, and none that could hold a request's body or address.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s", force=True)
    for chatty in ("httpx2", "httpcore2", "openai", "twilio.http_client", "slack_sdk", "waitress.queue"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def event(name: str, *, level: Literal["debug", "info", "warning", "error"] = "info", **ids: object) -> None:
    """Log that `name` happened, with ids and small facts about it."""
    import structlog

    if structlog.is_configured():
        getattr(structlog.get_logger(), level)(name, **ids)


def log_fault(done: Future[None]) -> None:
    """Log what nobody caught in a pool's thread: it would vanish with the Future. Its type alone: words may quote."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        event("thread_crashed", level="error", error=type(error).__name__)
