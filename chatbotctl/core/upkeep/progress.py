"""How upkeep tells how far long work has come: by a callable that it is given, so that it knows of no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from chatbotctl.core.storage.sqlite_files import Pages

#: Called with what is being done, how many there are to do (None: unknown) and their name; yields what is to be called
#: with each number of things that were done.
Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def pages(progress: Progress, what: str, total: int) -> Iterator[Pages]:
    """Show how many of a file's `total` pages are done."""
    done = 0
    with progress(what, total, "pages") as advance:

        def on_pages(now: int, _: int) -> None:
            nonlocal done
            advance(now - done)
            done = now

        yield on_pages
