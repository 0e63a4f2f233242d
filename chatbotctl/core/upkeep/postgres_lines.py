"""The lines that back up and restore a PostgreSQL database: its own tools do that, and know it best."""

from __future__ import annotations

import shlex
from pathlib import Path

from sqlalchemy.engine import URL

#: Options of a URL that are secrets.
_SECRETS = ("password", "sslpassword")


def dump_line(url: URL, file: Path) -> str:
    """What to type to write the database to `file`, while servers go on."""
    return shlex.join(["pg_dump", "--format=custom", f"--file={file}", f"--dbname={_without_password(url)}"])


def restore_line(url: URL, file: Path) -> str:
    """What to type to make the database what `file` holds: all of it, or, if anything breaks off, nothing."""
    options = ["--clean", "--if-exists", "--no-owner", "--single-transaction"]
    return shlex.join(["pg_restore", *options, f"--dbname={_without_password(url)}", str(file)])


def _without_password(url: URL) -> str:
    """As libpq knows it: it takes the password from PGPASSWORD or ~/.pgpass, where no list of processes shows it."""
    query = {name: value for name, value in url.query.items() if name not in _SECRETS}
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return plain.render_as_string(hide_password=False)
