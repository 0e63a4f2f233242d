"""`chatbotctl` and `python -m chatbotctl` start here; all the work is in chatbotctl.commands."""

import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    _open_what_is_closed()
    from chatbotctl.commands.app import main as run

    sys.exit(run())


def _open_what_is_closed() -> None:
    """Let streams that were closed (`2>&-`) lead nowhere: Python has None there, and the next file gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - for as long as the process lives


if __name__ == "__main__":
    main()
