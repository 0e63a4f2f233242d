"""Has dead letters gone on with, or drops them, one after the other: what `queue retry` and `queue drop` do.

Each letter is a transaction of its own: a command that is interrupted has done what it has done, and can be run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chatbotctl.core.errors import ConflictError
from chatbotctl.core.flow.services import Services
from chatbotctl.core.log import event
from chatbotctl.core.records.backlog import EntryId, Kind
from chatbotctl.core.records.business import Business
from chatbotctl.core.storage import backlog, dead_letters

#: Letters that are looked up at once.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Retried:
    """A letter that is gone on with."""

    #: An operator holds the conversation: it waits until that one gives it back.
    held: bool = False
    #: Whether the assistant is asked again; otherwise what is stored leaves.
    asks: bool = False


def retry(services: Services, id_: EntryId) -> Retried:
    """Have one dead letter gone on with, and wake a worker for it.

    Raises NotFoundError, ConflictError when it is not dead or cannot be gone on with, or BusinessDisabled.
    """
    _require_letter(id_)
    if id_.kind is Kind.SLACK:
        with services.database.write() as tx:
            dead_letters.retry_post(tx, id_.number)
        event("post_retried", post=id_.number)
        return Retried()
    with services.database.write() as tx:
        done = dead_letters.retry_turn(tx, id_.number)
    event("turn_retried", turn=id_.number, conversation=done.due.conversation_id, asks=done.asks)
    if not done.held:
        services.wakeup.wake(due=done.due, delay=0.0)
    return Retried(held=done.held, asks=done.asks)


def drop(services: Services, id_: EntryId, reason: str) -> None:
    """Settle one dead letter: nothing more comes of it.

    Arguments:
        reason: why, for the timeline; no customer's text.

    Raises NotFoundError, or ConflictError when it is not dead.
    """
    _require_letter(id_)
    with services.database.write() as tx:
        if id_.kind is Kind.SLACK:
            dead_letters.drop_post(tx, id_.number, reason)
        else:
            dead_letters.drop_turn(tx, id_.number, reason)
    event("dead_letter_dropped", id=str(id_))


def _require_letter(id_: EntryId) -> None:
    if id_.kind is Kind.THREAD:
        raise ConflictError(
            f"{id_} is a thread whose messages wait for their turn, no dead letter.",
            hint="`chatbotctl queue list --state dead` shows the dead letters.",
        )


def every_dead(
    services: Services, *, kinds: tuple[Kind, ...], business: Business | None, code: str | None
) -> Iterator[EntryId]:
    """All dead letters of these kinds (TURN, SLACK), oldest first; read in batches, each letter told once.

    Arguments:
        business: only this one's.
        code: only those that failed with it, be it our own code or the vendor's.
    """
    for kind in kinds:
        after = 0
        while True:
            with services.database.read() as tx:
                found = backlog.dead_ids(tx, kind, after=after, business=business, code=code, limit=BATCH)
            yield from (EntryId(kind, number) for number in found)
            if len(found) < BATCH:
                break
            after = found[-1]
