"""Points in time as people type and read them, and as JSON gives them. Inside they are seconds since 1970 UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d{1,6}) ?([smhdw])")


def since(text: str) -> float:
    """The time that `--since` means: `90s`, `30m`, `24h`, `7d` or `2w` ago, or an ISO 8601 date or time.

    A date or time without an offset is the operator's own. Raises ValueError, saying what is allowed.
    """
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is not None:
        return time.time() - int(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError) as exc:
        raise ValueError("write it like 30m, 24h, 7d, 2026-11-01 or 2026-11-01T08:30") from exc


def iso(at: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, for JSON."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lately(at: float | None) -> str | None:
    """How long ago, or the date where that says more."""
    if at is None:
        return None
    seconds = time.time() - at
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    moment = _local(at)
    if moment.year == datetime.now(UTC).astimezone().year:
        return f"{moment.day} {moment:%b %H:%M}"
    return f"{moment.day} {moment:%b %Y}"


def day(at: float) -> str:
    """The day where the operator is, for a heading."""
    moment = _local(at)
    return f"{moment:%A}, {moment.day} {moment:%B %Y}"


def clock(at: float) -> str:
    """The time of day where the operator is."""
    return f"{_local(at):%H:%M}"


def exactly(at: float) -> str:
    """Date and time to the second, where the operator is."""
    return f"{_local(at):%Y-%m-%d %H:%M:%S}"


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()
