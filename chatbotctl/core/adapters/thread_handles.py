"""What an `ai_thread` looks like: handles of our own making, and telling one backend's from another's.

Called by every assistant's adapter. A business may change its backend, so a conversation may come with the handle of
the one before.
"""

from __future__ import annotations

import uuid

from chatbotctl.core.errors import ThreadGone

#: What handles of our own making start with.
LOCAL_PREFIX = "local_"


def local_handle() -> str:
    """A unique `ai_thread` for a backend that keeps no conversations."""
    return f"{LOCAL_PREFIX}{uuid.uuid4().hex}"


def require_handle(ai_thread: str, prefix: str) -> None:
    """Raise ThreadGone, without asking anybody, for a handle that another backend made."""
    if not ai_thread.startswith(prefix):
        raise ThreadGone("The conversation was made by another kind of assistant.", reason="foreign_thread")
