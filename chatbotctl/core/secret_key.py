"""The key that encrypts businesses' credentials: CHATBOTCTL_SECRET_KEY, or a 0600 file that `init` makes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chatbotctl.core.errors import SecretKeyError

VARIABLE = "CHATBOTCTL_SECRET_KEY"


def place(home: Path) -> Path | str:
    """Where the key is: the environment, or the file of an install."""
    return VARIABLE if os.environ.get(VARIABLE) else key_file(home)


def key_file(home: Path) -> Path:
    """Where `init` puts the key."""
    return home / "secret.key"


def make(home: Path) -> bool:
    """Make the key file unless there is one or the environment holds the key; returns whether it was made.

    Raises SecretKeyError when it cannot be written.
    """
    path = key_file(home)
    if os.environ.get(VARIABLE) or path.exists():
        return False
    if path.is_symlink():
        raise SecretKeyError(
            f"The key file {path} is a link to {path.readlink()}, which is not there.",
            hint="Put the key there (mount the volume that has it), or remove the link and run this once more.",
        )
    from cryptography.fernet import Fernet

    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise SecretKeyError(
            f"The key file {path} cannot be written: {exc.strerror}.", hint="Name another place with CHATBOTCTL_HOME."
        ) from exc
    with os.fdopen(handle, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
    return True


def load(home: Path) -> list[str]:
    """The keys, newest first. Raises SecretKeyError when there is none or the file is readable by others."""
    given = os.environ.get(VARIABLE)
    path = key_file(home)
    if not given:
        try:
            mode = path.stat().st_mode
            given = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as exc:
            raise SecretKeyError(
                f"There is no usable key for credentials: {VARIABLE} is not set and {path} cannot be read.",
                hint="Make one with `chatbotctl init`.",
            ) from exc
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretKeyError(f"{path} can be read by others.", hint=f"chmod 600 {path}")
    return [key.strip() for key in given.replace("\n", ",").split(",") if key.strip()]
