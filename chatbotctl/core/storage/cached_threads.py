"""What the thread cache should hold: read by conversation or by customer, in pages, so that any number of them fits.

Used by upkeep alone; on its way a message reads its own conversation. A conversation without an `ai_thread` has no
entry in the cache.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, Select, func, select

from chatbotctl.core.records.conversation import CachedThread, cache_key
from chatbotctl.core.storage.schema import business_clients, businesses, clients


def count(tx: Connection) -> int:
    """How many entries there should be."""
    return tx.scalar(select(func.count()).where(business_clients.c.ai_thread.is_not(None))) or 0


def page(tx: Connection, *, after: int, limit: int) -> dict[int, CachedThread]:
    """Conversation id -> its entry, for the next `limit` of them whose ids are greater than `after`, in that order."""
    bc = business_clients.c
    return _entries(tx, _select().where(bc.id > after).order_by(bc.id).limit(limit))


def ai_threads(tx: Connection, *, after: int, upto: int) -> dict[int, str]:
    """Conversation id -> its thread, for ids greater than `after` and up to `upto`: what `page` says, but quicker."""
    bc = business_clients.c
    query = select(bc.id, bc.ai_thread).where(bc.id > after, bc.id <= upto, bc.ai_thread.is_not(None))
    return {number: thread for number, thread in tx.execute(query).all() if thread is not None}


def of_customers(tx: Connection, addresses: Collection[str]) -> dict[int, CachedThread]:
    """Conversation id -> its entry, for all conversations of the customers with these addresses."""
    return _entries(tx, _select().where(clients.c.address.in_(addresses)))


def keys_of_customers(tx: Connection, addresses: Collection[str]) -> set[str]:
    """The keys of `of_customers`, but quicker."""
    query = _select().with_only_columns(clients.c.address, businesses.c.whatsapp_address)
    rows = tx.execute(query.where(clients.c.address.in_(addresses))).all()
    return {cache_key(sender, receiver) for sender, receiver in rows}


def _select() -> Select[int, str, str, str | None]:
    bc = business_clients.c
    return (
        select(bc.id, clients.c.address, businesses.c.whatsapp_address, bc.ai_thread)
        .join(clients, clients.c.id == bc.client_id)
        .join(businesses, businesses.c.id == bc.business_id)
        .where(bc.ai_thread.is_not(None))
    )


def _entries(tx: Connection, query: Select[int, str, str, str | None]) -> dict[int, CachedThread]:
    return {
        conversation_id: CachedThread(sender=sender, receiver=receiver, thread_id=ai_thread)
        for conversation_id, sender, receiver, ai_thread in tx.execute(query).all()
        if ai_thread is not None
    }
