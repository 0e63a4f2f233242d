"""Logs are events: a machine name and ids. Never a message's text, never a full number, never a secret.

`configure` is called once by the process that owns stderr (a command); everything else only calls `event`. Where nobody
called it, events go nowhere: unasked, structlog would write them to stdout, into a command's data.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from structlog.typing import EventDict

#: Control characters (C0, DEL, C1), what turns a line's direction or ends it, and halves of surrogate pairs. Requests
#: bring them in (a Host header, say), and a terminal that shows the log obeys them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: What the present thread is at work on. Not structlog's own, which looks through all of the context for each event.
_about: ContextVar[Mapping[str, object]] = ContextVar("chatbotctl_about", default=MappingProxyType({}))
#: The processors of a configuration, and its logger.
_made: tuple[object, Any] | None = None

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(
    *,
    level: str = "info",
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002
    leave_out: Collection[str] = (),
) -> None:
    """Write events of `level` and above to stderr: JSON lines, or readable ones on a terminal (`auto` decides).

    Arguments:
        leave_out: names of events that a command tells in its own words.
    """
    import structlog

    readable = format == "console" or (format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
    )

    def drop(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if event["event"] in leave_out:
            raise structlog.DropEvent
        return event

    structlog.configure(
        processors=[
            drop,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape,
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
    """Log that `name` happened, with ids and small facts about it, and what the thread is `about`.

    A log that cannot be written (a full disk, a closed pipe) loses the event and nothing else: whoever tells of a fault
    here is about to mend it.
    """
    import structlog

    if structlog.is_configured():
        with contextlib.suppress(OSError):
            getattr(_logger(), level)(name, **{**_about.get(), **ids})


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """While the block lasts, every event of this thread carries these ids; None: unknown until somebody `note`s it."""
    before = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(before)


def note(**ids: object) -> None:
    """Tell ids of what the block around this is `about`, as they come to be known; others are nobody's business."""
    asked_for = _about.get()
    _about.set({**asked_for, **{name: value for name, value in ids.items() if name in asked_for}})


def _logger() -> Any:
    """The process's logger: made once for each configuration, because making one costs as much as logging by it."""
    global _made
    import structlog

    processors = structlog.get_config()["processors"]
    if _made is None or _made[0] is not processors:
        _made = processors, structlog.get_logger().bind()
    return _made[1]


def _escape(_logger: object, _method: str, values: EventDict) -> EventDict:
    r"""A structlog processor: what a terminal would obey becomes its escape (`\x1b`). Other types go out as repr."""
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)
    return values


def log_fault(done: Future[None]) -> None:
    """Log what nobody caught in a pool's thread: it would vanish with the Future. Its type alone: words may quote."""
    error = None if done.cancelled() else done.exception()
    if error is not None:
        event("thread_crashed", level="error", error=type(error).__name__)
