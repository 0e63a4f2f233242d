"""How often what can be repeated is repeated: a few times in `make test`, and many times in `make repeat`.

`make repeat`, and `make chaos` with it, take each count by its name: `make repeat TEST_ROUNDS=20 TEST_BURSTS=50`.
"""

from __future__ import annotations

import os

#: Whether this is a long run.
IS_LONG = os.environ.get("TEST_LONG") == "1"


def times(name: str, *, quick: int, long: int) -> int:
    """How often to do what is counted as `name`."""
    given = os.environ.get(f"TEST_{name.upper()}")
    return int(given) if given else (long if IS_LONG else quick)
