"""Bringing a database's schema up to date (Alembic), and refusing one that does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from chatbotctl.core.errors import ConflictError, SchemaMismatch
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.storage.schema import metadata

if TYPE_CHECKING:
    from alembic.config import Config

#: Any fixed number: the PostgreSQL advisory lock that lets one process migrate at a time.
ADVISORY_LOCK = 24282683


@dataclass(frozen=True)
class SchemaState:
    """Which migration a database is at (None: empty), and which one this version of chatbotctl wants."""

    current: str | None
    wanted: str
    #: The database has a migration that this version does not know: it was made by a newer one.
    newer: bool

    @property
    def fits(self) -> bool:
        """Whether this version can work with the database as it is."""
        return self.current == self.wanted


def state(database: Database) -> SchemaState:
    """How the database's schema stands. Raises StorageUnavailable."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    current = None
    if not database.is_absent:  # to connect to an SQLite file that is not there would make one
        with database.read() as tx:
            current = MigrationContext.configure(tx).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    wanted = scripts.get_current_head()
    assert wanted is not None, "there is at least one migration"
    return SchemaState(current=current, wanted=wanted, newer=current is not None and current not in known)


def has_our_tables(database: Database) -> bool:
    """Whether the database is one of chatbotctl's, of whatever version. Raises StorageUnavailable."""
    with database.read() as tx:
        return {"alembic_version", "business_clients", "inbound_messages"} <= set(inspect(tx).get_table_names())


def require_fitting(database: Database) -> None:
    """Raise SchemaMismatch, saying what to type, unless the schema is the one this version wants."""
    found = state(database)
    if found.newer:
        raise SchemaMismatch(
            f"The database's schema ({found.current}) is newer than this version of chatbotctl knows.",
            hint="Upgrade chatbotctl on this machine.",
        )
    if found.current is None:
        raise SchemaMismatch(
            "The database has no tables yet.", hint="Run `chatbotctl init` or `chatbotctl db upgrade`."
        )
    if not found.fits:
        raise SchemaMismatch(
            f"The database's schema ({found.current}) is older than this version needs ({found.wanted}).",
            hint="Run `chatbotctl db upgrade`.",
        )


def upgrade(database: Database) -> SchemaState:
    """Migrate to the newest schema; safe to run twice and by several processes at once. Returns the state after it.

    Raises SchemaMismatch, ConflictError (another program's tables are in the way), StorageUnavailable.
    """
    from alembic import command

    before = state(database)
    if before.newer:
        require_fitting(database)
    if not before.fits:
        database.make_file()
        with database.write() as tx:
            if not database.is_sqlite:
                _alone(tx)
            _require_no_tables_of_others(tx)
            config = _config(tx)
            command.upgrade(config, "head")
    return state(database)


def _alone(tx: Connection) -> None:
    """Have PostgreSQL let this transaction migrate when nobody else does, and for as long as that takes.

    A large table's index takes longer than a message's statement may, and so does the wait for whoever makes it. Only
    for the tables' own locks the limit stays: everybody who uses a table waits behind a migration that waits for it.
    """
    for limit in ("statement_timeout", "lock_timeout"):
        tx.execute(text(f"SET LOCAL {limit} = 0"))
    tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    tx.execute(text("SET LOCAL lock_timeout TO DEFAULT"))


def _require_no_tables_of_others(tx: Connection) -> None:
    """Raise ConflictError when something else than chatbotctl has made tables that are called like ours."""
    from alembic.runtime.migration import MigrationContext

    if MigrationContext.configure(tx).get_current_revision() is not None:
        return
    taken = sorted(set(inspect(tx).get_table_names()) & set(metadata.tables))
    if taken:
        raise ConflictError(
            f"The database is used by something else: it has a table `{taken[0]}` that is not chatbotctl's.",
            hint="Make a database for chatbotctl alone, and name it in DATABASE_URL (database.url).",
        )


def _config(tx: Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = tx
    return config
