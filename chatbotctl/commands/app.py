"""The root Typer app."""


def main() -> int:
    """Run."""
    return 0
