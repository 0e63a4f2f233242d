"""The header Retry-After: how long a service asks us to wait.

Called by every adapter that speaks HTTP, and meant for them alone.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_to_wait(text: str | None) -> float | None:
    """Seconds from now, 0.0 or more; None without the header or when it is neither of its two forms.

    Those are seconds, which some services give in fractions, and a date (RFC 9110, 10.2.3).
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _until(text)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
