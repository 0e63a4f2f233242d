"""Statements of a message's path, compiled once and run on the driver's own cursor.

SQLAlchemy's constructs stay the source of the SQL, and its types say how values go in and come out; what is saved is
what it does anew for every execution (a cache key, an execution context, a result with its metadata), which takes
several times as long as SQLite takes to run the statement. Statements that are not on the path have no need of this:
`tx.execute` runs them, in the same transactions.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Dialect, Insert, Select, Update, exc
from sqlalchemy.types import TypeEngine

#: Turns a value into what the driver takes, or the driver's into ours.
_Processor = Callable[[Any], Any]


class Prepared:
    """One statement, for any number of transactions and threads.

    Values are given by name as SQLAlchemy takes them: those that an INSERT or UPDATE sets by their column's name, all
    others by their bindparam's. Which names are given is part of the statement. Everything raises what SQLAlchemy
    raises: sqlalchemy.exc.IntegrityError, OperationalError...
    """

    def __init__(self, statement: Select[*tuple[Any, ...]] | Insert | Update | Delete) -> None:
        # Without `inline`, an INSERT would ask PostgreSQL for a key that nobody reads.
        is_silent = isinstance(statement, Insert) and not statement.exported_columns
        self._statement = statement.inline() if is_silent else statement  # type: ignore[union-attr]
        #: By dialect and names.
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def run(self, tx: Connection, **values: object) -> int:
        """Execute; returns how many rows were changed."""
        cursor, _ = self._execute(tx, values)
        return int(cursor.rowcount)

    def one(self, tx: Connection, **values: object) -> Any:
        """The only row, as a named tuple. Raises NoResultFound when there is none."""
        row = self.first(tx, **values)
        if row is None:
            raise exc.NoResultFound("No row was found when one was required")
        return row

    def first(self, tx: Connection, **values: object) -> Any | None:
        """The first row, or None."""
        cursor, compiled = self._execute(tx, values)
        fetched = cursor.fetchone()
        row = None if fetched is None else compiled.row(fetched, cursor)
        # SQLite runs a RETURNING statement to its end only when it is asked for more, or told that nobody asks.
        cursor.close()
        return row

    def all(self, tx: Connection, **values: object) -> list[Any]:
        """All rows."""
        cursor, compiled = self._execute(tx, values)
        return [compiled.row(fetched, cursor) for fetched in cursor.fetchall()]

    def _execute(self, tx: Connection, values: Mapping[str, object]) -> tuple[Any, _Compiled]:
        dialect = tx.dialect
        key = (dialect.name, *values)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, dialect, list(values))
        cursor = tx.connection.cursor()
        try:
            cursor.execute(compiled.sql, compiled.parameters(values))
        except dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemys(tx, error, compiled.sql) from error
        return cursor, compiled


class _Compiled:
    """A statement as one dialect's driver takes it."""

    def __init__(self, statement: Any, dialect: Dialect, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        # Values that are part of the SQL (the members of a list, a separator) are written out, once and for all.
        state = compiled.construct_expanded_state(dict.fromkeys(names), escape_names=False)
        self.sql: str = state.statement
        self._dialect = dialect
        #: Names in the order in which the driver takes their values; None: it takes them by name.
        self._places: Sequence[str] | None = state.positiontup if compiled.positional else None
        processors = {
            name: process
            for bind, name in compiled.bind_names.items()
            if (process := _impl(bind.type, dialect).bind_processor(dialect)) is not None
        } | dict(state.processors)
        #: What turns the values that are given into what the driver takes, where they are not the same.
        self._binders = [(name, process) for name, process in processors.items() if name in names]
        #: Values that stand in the statement itself, turned already.
        self._constants = {
            name: processors[name](value) if name in processors else value
            for name, value in state.parameters.items()
            if name not in names
        }
        columns = statement.exported_columns
        self._types = [column.type for column in columns]
        self._row = namedtuple("Row", columns.keys()) if len(columns) else tuple  # noqa: PYI024 - made at run time
        #: What turns the driver's values into ours, by place; known once there is a row.
        self._readers: list[tuple[int, _Processor]] | None = None

    def parameters(self, values: Mapping[str, object]) -> Any:
        """What the driver is given."""
        given = {**self._constants, **values}
        for name, process in self._binders:
            given[name] = process(given[name])
        return given if self._places is None else [given[name] for name in self._places]

    def row(self, fetched: Sequence[Any], cursor: Any) -> Any:
        """A row as ours."""
        if self._readers is None:
            self._readers = self._readers_of(cursor.description)
        if not self._readers:
            return self._row(*fetched)
        columns = list(fetched)
        for place, process in self._readers:
            columns[place] = process(columns[place])
        return self._row(*columns)

    def _readers_of(self, description: Sequence[Sequence[Any]]) -> list[tuple[int, _Processor]]:
        found = (
            (place, _impl(type_, self._dialect).result_processor(self._dialect, described[1]))
            for place, (type_, described) in enumerate(zip(self._types, description, strict=True))
        )
        return [(place, process) for place, process in found if process is not None]


def _impl(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return type_.dialect_impl(dialect)


def _as_sqlalchemys(tx: Connection, error: Any, sql: str) -> Exception:
    """The driver's error as SQLAlchemy raises it; a connection that is lost is forgotten, as SQLAlchemy does."""
    is_lost = tx.dialect.is_disconnect(error, None, None)
    if is_lost:
        tx.invalidate(error)
    raised: Exception = exc.DBAPIError.instance(
        sql,
        None,
        error,
        tx.dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=tx.dialect,
    )
    return raised
