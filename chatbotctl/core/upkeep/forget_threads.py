"""What the end of a business, of its number or of a thread means for the shared thread cache.

Called by the commands that end one, once the database has changed. Left in the cache, its entries would hand the
threads to the business that gets the number next.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from chatbotctl.core.errors import OutsideError
from chatbotctl.core.ports import ThreadCache


def forget_threads(keys: Sequence[str], cache: AbstractContextManager[ThreadCache] | None) -> None:
    """Take the entries with these keys out of the cache.

    Arguments:
        cache: the strict one, opened only when there is something to take out; None: no cache is shared, and another
            process's own cannot be reached.

    Raises OutsideError, saying what to do, when the cache is out of reach: the database has changed already.
    """
    if not keys or cache is None:
        return
    try:
        with cache as opened:
            opened.remove(keys=keys)
    except OutsideError as error:
        raise OutsideError(
            f"The change is stored, but the thread cache still has {len(keys)} of its threads. {error.message}",
            reason=error.reason,
            retryable=True,
            hint="Run `chatbotctl cache rebuild` once Redis answers.",
        ) from error
