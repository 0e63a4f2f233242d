"""What text every store and service can hold. Checked once at the edge, so that nothing behind it has to.

Used by the server for each field of a webhook, and by the path for messages that come from anywhere else.
"""

from __future__ import annotations

import re

from chatbotctl.core.errors import UnreadableMessage

_SURROGATE = re.compile("[\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether every store and service can hold `text`."""
    return "\0" not in text and not _SURROGATE.search(text)


def require_storable(text: str, what: str) -> None:
    """Raise UnreadableMessage for what PostgreSQL refuses (NUL) and what UTF-8 cannot hold (lone surrogates).

    Arguments:
        what: names the text in the error; the text itself is never shown.
    """
    if "\0" in text:
        raise UnreadableMessage(f"{what} contains a NUL character.")
    if _SURROGATE.search(text):
        raise UnreadableMessage(f"{what} contains half of a character (a lone surrogate).")
