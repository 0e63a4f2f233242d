"""`chatbotctl` and `python -m chatbotctl` start here; all the work is in chatbotctl.commands."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from chatbotctl.commands.app import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
