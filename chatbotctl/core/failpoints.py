"""Named points on a message's path at which a test makes the process die, fail or dawdle.

`CHATBOTCTL_FAILPOINT=<name>[@<nth>]:kill|raise|sleep=<seconds>` is honoured only beside `CHATBOTCTL_TESTING=1`, so that
no environment of an operator's ever sets one off. In the order of the path the names are those of POINTS.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from chatbotctl.core.log import event

#: stored: the message is in the inbox. acknowledged: the webhook's answer has left. thread_found. asked: the assistant
#: has answered, and nothing of it is stored. answered: the reply is stored. sending: the part is marked, and has not
#: left. sent_not_recorded: Twilio has it. recorded: and so says the database. mirrored: Slack has the line.
POINTS = (
    "stored",
    "acknowledged",
    "thread_found",
    "asked",
    "answered",
    "sending",
    "sent_not_recorded",
    "recorded",
    "mirrored",
)


class FailPointReached(BaseException):
    """What `raise` raises: no handler of faults catches it, as none outlives a dead process."""


@dataclass
class _FailPoint:
    name: str
    action: str
    #: It goes off at this visit, counted from 1, and at no other.
    nth: int
    seconds: float = 0.0
    _visits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def visit(self) -> None:
        with self._lock:
            self._visits += 1
            if self._visits != self.nth:
                return
        # Whoever waits for it from outside sees it there.
        event("fail_point_reached", level="warning", point=self.name)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "raise":
            raise FailPointReached(self.name)
        time.sleep(self.seconds)


def reach(name: str) -> None:
    """The path has come to this point."""
    if _armed is not None and _armed.name == name:
        _armed.visit()


@contextmanager
def armed(spec: str) -> Iterator[None]:
    """Arm a fail point in this process, for the length of the block (tests)."""
    global _armed
    _armed = _read(spec)
    try:
        yield
    finally:
        _armed = None


def _read(spec: str) -> _FailPoint:
    """Raises ValueError for what is no fail point: a test that arms nothing proves nothing."""
    place, _, action = spec.partition(":")
    name, _, nth = place.partition("@")
    action, _, seconds = action.partition("=")
    if name not in POINTS or action not in ("kill", "raise", "sleep") or int(nth or 1) < 1:
        raise ValueError(f"CHATBOTCTL_FAILPOINT: {spec!r} is not <name>[@<nth>]:kill|raise|sleep=<seconds>")
    return _FailPoint(name=name, action=action, nth=int(nth or 1), seconds=float(seconds or 0))


def _from_environment(environ: Mapping[str, str]) -> _FailPoint | None:
    spec = environ.get("CHATBOTCTL_FAILPOINT")
    return _read(spec) if spec and environ.get("CHATBOTCTL_TESTING") == "1" else None


_armed: _FailPoint | None = _from_environment(os.environ)
