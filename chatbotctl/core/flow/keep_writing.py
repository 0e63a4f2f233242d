"""Writes down what has happened outside already, past a moment in which the database is away.

Twilio took the message, Slack made the channel: that stays true, and forgetting it costs more than waiting here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.log import event
from chatbotctl.core.storage.database_faults import UnreadableRow
from chatbotctl.core.storage.engine import Database

T = TypeVar("T")

#: Seconds between attempts.
PAUSE_SECONDS = 0.25


def keep_writing(database: Database, write: Callable[[Connection], T], *, seconds: float) -> T:
    """Call `write` in a transaction until one is committed, for about `seconds`; returns what it returned then.

    Arguments:
        write: safe to do twice: a commit whose answer got lost is made again.
        seconds: a lease's length; later somebody else may be at it.

    Raises StorageUnavailable when the database has not come back by then; UnreadableRow at once.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            with database.write() as tx:
                done = write(tx)
        except StorageUnavailable as error:
            if isinstance(error, UnreadableRow) or time.monotonic() + PAUSE_SECONDS >= end:
                raise
            event("storage_unavailable", level="error", reason=error.message)
            time.sleep(PAUSE_SECONDS)
        else:
            return done
