"""What one run of the command line works with: the global options, and settings and core opened on first use.

Each command takes it from `ctx.obj`. This is the only place here that builds a Core.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from chatbotctl.core.config import Key, Loaded
    from chatbotctl.core.wiring import Core


@dataclass
class Session:
    """The global options of this run."""

    config: Path | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    _loaded: dict[tuple[object, ...], Loaded] = field(default_factory=dict)

    def loaded(self, flags: Mapping[Key, object] | None = None) -> Loaded:
        """The settings, with what a command's own flags say on top. Raises ConfigurationError."""
        from chatbotctl.core import config

        given = {key: value for key, value in (flags or {}).items() if value is not None}
        key = tuple(sorted(given.items()))
        if key not in self._loaded:
            self._loaded[key] = config.load(self.config, given)
        return self._loaded[key]

    @contextmanager
    def core(
        self,
        flags: Mapping[Key, object] | None = None,
        *,
        any_schema: bool = False,
        unlogged: Collection[str] = (),
    ) -> Iterator[Core]:
        """An open Core, closed at the end of the block.

        Arguments:
            flags: settings given on the command line, by (section, key).
            any_schema: also on a database that this version's tables are not in (yet).
            unlogged: events that the command tells in its own words; with --verbose they are logged all the same.

        Raises ConfigurationError, SchemaMismatch, StorageUnavailable.
        """
        from chatbotctl.core.storage import migrate
        from chatbotctl.core.wiring import Core

        loaded = self.loaded(flags)
        self._log_quietly(unlogged)
        core = Core(loaded)
        try:
            if not any_schema:
                migrate.require_fitting(core.database)
            yield core
        finally:
            core.close()

    def log_events(self) -> None:
        """Log what happens from now on as `log.level` says: for processes that stay (`serve`, `worker`)."""
        from chatbotctl.core import log

        settings = self.loaded().settings.log
        log.configure(level="debug" if self.verbose else settings.level, format=settings.format)

    def _log_quietly(self, unlogged: Collection[str]) -> None:
        """Errors that a command meets on its way go to stderr, with --verbose everything."""
        from chatbotctl.core import log

        log.configure(
            level="debug" if self.verbose else "error",
            format="console" if sys.stderr.isatty() else "auto",
            leave_out=() if self.verbose else unlogged,
        )


def session_of(ctx: typer.Context) -> Session:
    """The run's session; every command asks for it."""
    session = ctx.obj
    assert isinstance(session, Session), "the root callback makes it"
    return session
