"""What a web address is: asked of settings, of what an operator types, and before a client is made for a server.

Used by every layer above; must import nothing of ours.
"""

from __future__ import annotations

from urllib.parse import urlsplit


def is_web_address(text: str) -> bool:
    """Whether `text` is an absolute http or https address with a host, in printable ASCII without spaces.

    A host name with other letters has to come in its ASCII form (`xn--...`): not every SDK translates it.
    """
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a host in broken brackets, a port that is none
        return False
