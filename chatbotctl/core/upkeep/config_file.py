"""The config file that `init` makes: every setting with its default, commented out."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from chatbotctl.core.errors import ConfigurationError


def example() -> str:
    """The text of the example, which is also config.example.toml in the project's root."""
    return resources.files(__package__).joinpath("config.example.toml").read_text("utf-8")


def make(path: Path) -> bool:
    """Write the example to `path` for its owner's eyes only; returns False when there is a file already.

    Raises ConfigurationError when it cannot be written.
    """
    try:
        # With a file where a folder should be, this raises FileExistsError too.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise _not_written(path, exc) from exc
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as exc:
        raise _not_written(path, exc) from exc
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(example())
    return True


def _not_written(path: Path, exc: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written: {exc.strerror}.", hint="Name another place with --config or CHATBOTCTL_HOME."
    )
