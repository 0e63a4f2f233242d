"""What the end of a business, or of its number, means for the thread cache."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatbotctl.core.wiring import Core


def forget_cached(core: Core, keys: Sequence[str]) -> None:
    """Take these entries out of the shared thread cache, if there is one.

    Left there, they would hand the threads to the business that gets the number next. Raises OutsideError, saying what
    to do, when Redis is out of reach: the database has changed already.
    """
    from chatbotctl.core.errors import OutsideError

    if not keys or core.settings.redis.url is None:
        return
    try:
        with closing(core.strict_cache()) as cache:  # type: ignore[type-var]
            cache.remove(keys=keys)
    except OutsideError as error:
        raise OutsideError(
            f"The change is stored, but the thread cache still has {len(keys)} of its threads. {error.message}",
            reason=error.reason,
            retryable=True,
            hint="Run `chatbotctl cache rebuild` once Redis answers.",
        ) from error
