"""Reads a file that an operator named, with what can go wrong in words. Used by the commands and knowledge_intake."""

from __future__ import annotations

from pathlib import Path

from chatbotctl.core.errors import NotFoundError, RefusedError


def read_at_most(path: Path, size: int) -> bytes:
    """The file's first `size` bytes; whoever has a limit asks for one byte more, and sees that there is more.

    Raises NotFoundError when it is not there, RefusedError, with the reason, when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError as exc:
        hint = "Check the path; a relative one begins at the folder that you are in."
        raise NotFoundError(f"There is no file {path}.", hint=hint) from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "that is no file name"
        raise RefusedError(f"{path} cannot be read: {reason}.", hint="Name a file that you may read.") from exc
