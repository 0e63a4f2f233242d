"""Whether PostgreSQL enforces all that our tables rely on, asked of its catalogue. Used by `db check`.

SQLite has a check of its own: `damage` in sqlite_files.py.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, text

from chatbotctl.core.storage.schema import metadata

_TABLES = sorted(metadata.tables)
#: Not those that are being built at this moment: they are valid once they are complete.
_INVALID_INDEXES = text("""
    SELECT index.relname FROM pg_index
    JOIN pg_class index ON index.oid = pg_index.indexrelid
    WHERE pg_index.indrelid IN (SELECT to_regclass(name) FROM unnest(:tables) AS name)
      AND NOT (pg_index.indisvalid AND pg_index.indisready)
      AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = pg_index.indexrelid)
    ORDER BY 1
""").bindparams(bindparam("tables", _TABLES))
_UNENFORCED = text("""
    SELECT conname FROM pg_constraint
    WHERE conrelid IN (SELECT to_regclass(name) FROM unnest(:tables) AS name)
      AND (NOT convalidated
           OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgconstraint = pg_constraint.oid AND tgenabled IN ('D', 'R')))
    ORDER BY 1
""").bindparams(bindparam("tables", _TABLES))


def invalid_indexes(tx: Connection) -> list[str]:
    """PostgreSQL's indexes of our tables that it does not use, because building them broke off."""
    return list(tx.scalars(_INVALID_INDEXES))


def unenforced(tx: Connection) -> list[str]:
    """PostgreSQL's constraints of our tables that it does not hold, or has never held all rows against."""
    return list(tx.scalars(_UNENFORCED))
