"""A messenger that prints what it would send: for `simulate` and for an install without a WhatsApp account.

Built by wiring. Nothing of it ever leaves the process.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from chatbotctl.core.records.turn import SentMessage


class ConsoleMessenger:
    """ports.Messenger that hands each message to `write` as one line, `-> <recipient>: <text>`.

    `write` gets the text as it is: whoever shows it on a terminal makes it safe for one. With a `write` that does
    nothing it is a messenger that sends nowhere.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, *, sender: str, recipient: str, body: str) -> SentMessage:  # noqa: ARG002 - the port's shape
        """Print one message; its sid starts with `console-`, its status is `printed`."""
        self._write(f"-> {recipient}: {body}")
        return SentMessage(sid=f"console-{uuid.uuid4().hex}", status="printed")

    def find(self, *, sender: str, recipient: str, body: str, since: float) -> list[SentMessage]:  # noqa: ARG002
        """Nothing: what was printed is not kept. To print it again does no harm."""
        return []
