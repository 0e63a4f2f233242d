"""Why a database cannot be used, in words that hold no secret and nothing of a statement; engine.py raises them.

A driver's own words may quote a statement or a password's user, so none is passed on: they are only sorted. PostgreSQL
sorts its errors by SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html), SQLite by name; only for a connection
that never came about libpq leaves nothing but words, which are English unless the server was told otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exc
from sqlalchemy.engine import URL

from chatbotctl.core.errors import StorageUnavailable

#: Where the database's URL is set.
_SETTING = "DATABASE_URL (database.url)"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a database fails.

    The hint may name {place}, {name} and {user} of the URL; the sentence, which also goes to whoever calls the webhook,
    names none of them.
    """

    sentence: str
    hint: str


_REFUSED = Fault("the connection was refused", f"See that PostgreSQL runs at {{place}}; {_SETTING} says where it is.")
_PASSWORD = Fault("the password was refused", f"Check the user {{user}} and its password in {_SETTING} for {{place}}.")
_USER = Fault("it does not let this user in", f"Check the user {{user}} in {_SETTING}, and pg_hba.conf at {{place}}.")
_NO_DATABASE = Fault(
    "there is no such database", f"Make `{{name}}` at {{place}} (`createdb`), or correct its name in {_SETTING}."
)
_NO_HOST = Fault("its host is not known", f"Check the host {{place}} in {_SETTING}, and this machine's name lookup.")
_NO_ANSWER = Fault(
    "it did not answer in time", f"See that {{place}} can be reached from here; {_SETTING} says where it is."
)
_STARTING = Fault("it is starting or shutting down", "Try again in a moment; if it lasts, see PostgreSQL's own log.")
_TOO_MANY = Fault("it has no connection to spare", "Raise max_connections at {place}, or run fewer processes.")
_ENCRYPTION = Fault("the encrypted connection failed", f"Check sslmode and the certificates in {_SETTING}.")
_OPTION = Fault("its URL has an option that it does not know", f"Look at what follows the ? in {_SETTING}.")
_NONE_FREE = Fault("all connections of this process are in use", "See what keeps {place} busy; lower server.threads.")
_LOST = Fault("the connection was lost", "Try again; if it lasts, see the log of PostgreSQL at {place}.")
_SLOW = Fault("a statement took too long", "See what else keeps {place} busy.")
_LOCKED = Fault("it is locked by another process", "See who else writes to {place}: a backup, or a tool left open?")
_READ_ONLY = Fault("it is read-only", f"{_SETTING} must name a database that can be written: see {{place}}.")
_FULL = Fault("its disk is full", "Make room at {place}.")
_FORBIDDEN = Fault("the user may not do that", "Let the user {user} own the tables at {place}.")
_DAMAGED = Fault("it is damaged", "Restore {place} from a backup.")
_NO_TABLE = Fault("a table or a column is missing", "`chatbotctl db current` tells how its schema stands.")
_CANNOT_OPEN = Fault(
    "its file cannot be opened", f"Check {{place}}, its folder, owner and mode; {_SETTING} says where it is."
)
_NO_DATABASE_FILE = Fault("its file is no SQLite database", f"Look at {{place}}, or name another in {_SETTING}.")
_DISK = Fault("its disk gave an error", "Look at the disk that {place} is on.")

_BY_SQLSTATE = {
    "28P01": _PASSWORD,
    "28000": _USER,
    "3D000": _NO_DATABASE,
    "53300": _TOO_MANY,
    "53100": _FULL,
    "57014": _SLOW,
    "55P03": _LOCKED,
    "40P01": _LOCKED,
    "25006": _READ_ONLY,
    "25P03": _LOST,
    "42501": _FORBIDDEN,
    "42P01": _NO_TABLE,
    "42703": _NO_TABLE,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": _STARTING,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
_BY_SQLITE_NAME = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_CANTOPEN": _CANNOT_OPEN,
    "SQLITE_PERM": _CANNOT_OPEN,
    "SQLITE_AUTH": _CANNOT_OPEN,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _NO_DATABASE_FILE,
    "SQLITE_FULL": _FULL,
    "SQLITE_IOERR_SHMSIZE": _FULL,  # what whoever opens the file is told: there is no room for the index of its log
    "SQLITE_IOERR": _DISK,
}
#: What libpq says of a connection that never came about: all words of a line, the more telling lines first.
_BY_WORDS: tuple[tuple[tuple[str, ...], Fault], ...] = (
    (("password authentication failed",), _PASSWORD),
    (("no password supplied",), _PASSWORD),
    (("pg_hba.conf",), _USER),
    (("authentication failed",), _USER),
    (("role ", "does not exist"), _USER),
    (("is not permitted to log in",), _USER),
    (("database ", "does not exist"), _NO_DATABASE),
    (("too many",), _TOO_MANY),
    (("connection slots",), _TOO_MANY),
    (("starting up",), _STARTING),
    (("shutting down",), _STARTING),
    (("recovery mode",), _STARTING),
    (("not yet accepting connections",), _STARTING),
    (("closed unexpectedly",), _LOST),  # before "ssl": an encrypted connection that breaks off names it too
    (("translate host name",), _NO_HOST),
    (("timeout expired",), _NO_ANSWER),
    (("timed out",), _NO_ANSWER),
    (("no route to host",), _NO_ANSWER),
    (("network is unreachable",), _NO_ANSWER),
    (("connection refused",), _REFUSED),
    (("no such file or directory", "socket"), _REFUSED),
    (("ssl",), _ENCRYPTION),
    (("certificate",), _ENCRYPTION),
    (("invalid dsn",), _OPTION),
    (("invalid connection option",), _OPTION),
    (("closed the connection",), _LOST),
    (("connection already closed",), _LOST),
    (("could not receive data",), _LOST),
    (("connection reset",), _LOST),
)


class UnreadableRow(StorageUnavailable):
    """What one row holds cannot be read. The database is there all the same, and so are the other rows."""


def unavailable(error: Exception, url: URL) -> StorageUnavailable:
    """The error to raise for what a driver, or the pool, has raised."""
    if _is_of_a_row(error):
        return UnreadableRow(
            "The database holds a row that cannot be read.", hint=f"Restore a backup of {_place(url)}."
        )
    fault = _fault(error)
    if fault is None:
        known = getattr(_driver_error(error), "pgcode", None)
        kind = type(_driver_error(error)).__name__
        return StorageUnavailable(
            f"The database is not usable at the moment ({f'{kind}, SQLSTATE {known}' if known else kind}).",
            hint=f"{_SETTING} says which it is: {_place(url)}.",
        )
    return _told(fault, url)


def locked(url: URL) -> StorageUnavailable:
    """The error to raise when this process's writers have waited too long for one another."""
    return _told(_LOCKED, url)


def _told(fault: Fault, url: URL) -> StorageUnavailable:
    hint = fault.hint.format(place=_place(url), name=url.database or url.username or "", user=url.username or "?")
    return StorageUnavailable(f"The database is not usable at the moment: {fault.sentence}.", hint=hint)


def _driver_error(error: Exception) -> BaseException:
    return (error.orig if isinstance(error, exc.DBAPIError) else None) or error


def _place(url: URL) -> str:
    """Where the database is: its file, or host and port; never its user's password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host")
    return f"{host}:{url.port or 5432}" if isinstance(host, str) else "this machine's socket"


def _is_of_a_row(error: Exception) -> bool:
    """Text that is no UTF-8 (which the driver says by words alone), or what PostgreSQL calls data_corrupted."""
    raised = _driver_error(error)
    return getattr(raised, "pgcode", None) == "XX001" or str(raised).startswith("Could not decode to UTF-8")


def _fault(error: Exception) -> Fault | None:
    if isinstance(error, exc.TimeoutError):
        return _NONE_FREE
    raised = _driver_error(error)
    name = getattr(raised, "sqlite_errorname", None)
    if name == "SQLITE_ERROR":
        return _NO_TABLE if "no such" in str(raised) else None
    if name is not None:
        # An extended name mostly says more than we need: SQLITE_READONLY_DIRECTORY, SQLITE_IOERR_FSYNC.
        return _BY_SQLITE_NAME.get(name) or _BY_SQLITE_NAME.get("_".join(name.split("_")[:2]))
    state = getattr(raised, "pgcode", None)
    if state is not None:
        return _BY_SQLSTATE.get(state) or (_LOST if state.startswith("08") else None)
    return _by_words(str(raised).lower())


def _by_words(words: str) -> Fault | None:
    return next((fault for needed, fault in _BY_WORDS if all(word in words for word in needed)), None)
