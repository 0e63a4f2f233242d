"""Businesses and the Slack users that belong to them. Callers give the transaction; nothing here commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, exc, func, insert, select, update

from chatbotctl.core.errors import AlreadyExists, BusinessNotFound
from chatbotctl.core.records.business import Backend, Business, History, Layout
from chatbotctl.core.records.conversation import CachedThread
from chatbotctl.core.storage.schema import business_clients, businesses, clients, credentials, slack_user_ids


def _select() -> Select[Any]:
    """A business with its Slack users and the providers it has credentials for, in one round trip."""
    users = (
        select(func.aggregate_strings(slack_user_ids.c.slack_user_id, " "))
        .where(slack_user_ids.c.business_id == businesses.c.id)
        .scalar_subquery()
    )
    providers = (
        select(func.aggregate_strings(credentials.c.provider, " "))
        .where(credentials.c.business_id == businesses.c.id)
        .scalar_subquery()
    )
    return select(businesses, users.label("users"), providers.label("providers"))


_ALL = _select().order_by(businesses.c.name)
_BY_ADDRESS = _select().where(businesses.c.whatsapp_address == bindparam("address"))
_BY_ID = _select().where(businesses.c.id == bindparam("id"))
_BY_NAME = _select().where(businesses.c.name == bindparam("name"))


def find_by_address(tx: Connection, address: str) -> Business | None:
    """The business that customers reach at `address`, or None."""
    return _one(tx, _BY_ADDRESS, address=address)


def get(tx: Connection, business_id: int) -> Business:
    """The business with this id. Raises BusinessNotFound."""
    found = _one(tx, _BY_ID, id=business_id)
    if found is None:
        raise BusinessNotFound
    return found


def by_name(tx: Connection, name: str) -> Business:
    """The business called `name`. Raises BusinessNotFound, naming those that there are."""
    found = _one(tx, _BY_NAME, name=name)
    if found is None:
        known = tx.scalars(select(businesses.c.name).order_by(businesses.c.name).limit(10)).all()
        raise BusinessNotFound(
            f"There is no business called {name!r}.",
            hint=f"Known: {', '.join(known)}." if known else "Add one with `chatbotctl business add`.",
        )
    return found


def listed(tx: Connection) -> list[Business]:
    """All businesses by name."""
    return [_record(row) for row in tx.execute(_ALL)]


def add(tx: Connection, *, name: str, whatsapp_address: str, values: Mapping[str, object]) -> Business:
    """Store a new business.

    Arguments:
        values: further columns by name, as in the Business record.

    Raises AlreadyExists when the name or the number is taken.
    """
    row = {"backend": Backend.OPENAI.value, **_columns(values), "name": name, "whatsapp_address": whatsapp_address}
    try:
        with tx.begin_nested():
            business_id = tx.execute(insert(businesses).values(row).returning(businesses.c.id)).scalar_one()
    except exc.IntegrityError as error:
        raise _taken(tx, name, whatsapp_address) from error
    return get(tx, business_id)


def change(tx: Connection, business: Business, values: Mapping[str, object]) -> Business:
    """Change columns by name. Raises AlreadyExists when a new name or number is taken."""
    columns = _columns(values)
    if columns:
        try:
            with tx.begin_nested():
                tx.execute(update(businesses).where(businesses.c.id == business.id).values(columns))
        except exc.IntegrityError as error:
            taken = {"name": business.name, "whatsapp_address": business.whatsapp_address, **columns}
            raise _taken(tx, taken["name"], taken["whatsapp_address"], other_than=business.id) from error
    return get(tx, business.id)


def set_disabled(tx: Connection, business: Business, disabled: bool, reason: str | None = None) -> None:
    """Disable or enable. Disabling bumps every conversation's epoch, so that no reply under way leaves any more."""
    values = {"is_disabled": disabled, "disabled_reason": reason if disabled else None}
    tx.execute(update(businesses).where(businesses.c.id == business.id).values(values))
    if disabled:
        tx.execute(
            update(business_clients)
            .where(business_clients.c.business_id == business.id)
            .values(epoch=business_clients.c.epoch + 1)
        )


def count_conversations(tx: Connection, business: Business) -> int:
    """How many conversations a business has."""
    mine = select(func.count()).select_from(business_clients).where(business_clients.c.business_id == business.id)
    return tx.scalar(mine) or 0


def cache_keys(tx: Connection, business: Business) -> list[str]:
    """The thread cache's keys of a business's conversations, at the number that it has now."""
    query = (
        select(clients.c.address)
        .join(business_clients, business_clients.c.client_id == clients.c.id)
        .where(business_clients.c.business_id == business.id)
    )
    receiver = business.whatsapp_address
    return [CachedThread(sender=address, receiver=receiver, thread_id="").key for address in tx.scalars(query)]


def remove(tx: Connection, business: Business) -> int:
    """Delete a business with its conversations, credentials and files; returns how many conversations went."""
    count = count_conversations(tx, business)
    tx.execute(delete(businesses).where(businesses.c.id == business.id))
    return count


def set_slack_users(tx: Connection, business: Business, user_ids: Sequence[str]) -> None:
    """Replace the Slack users that are invited to this business's channels."""
    tx.execute(delete(slack_user_ids).where(slack_user_ids.c.business_id == business.id))
    for user_id in dict.fromkeys(user_ids):
        tx.execute(insert(slack_user_ids).values(business_id=business.id, slack_user_id=user_id))


def set_slack_channel(tx: Connection, business_id: int, channel: str | None) -> None:
    """Remember the business's one channel of layout `thread`."""
    tx.execute(update(businesses).where(businesses.c.id == business_id).values(slack_channel=channel))


def _taken(tx: Connection, name: object, address: object, other_than: int = 0) -> AlreadyExists:
    rows = select(businesses.c.name).where(businesses.c.id != other_than)
    if tx.scalar(rows.where(businesses.c.name == name)):
        return AlreadyExists(
            f"There is already a business called {name!r}.", hint="Change it with `chatbotctl business update`."
        )
    owner = tx.scalar(rows.where(businesses.c.whatsapp_address == address))
    return AlreadyExists(
        f"The number {address} belongs to the business {owner!r}.", hint="`chatbotctl business list` shows all numbers."
    )


def _columns(values: Mapping[str, object]) -> dict[str, Any]:
    """Record values as column values."""
    unknown = set(values) - set(businesses.c.keys())
    if unknown:
        raise KeyError(f"no such business columns: {sorted(unknown)}")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _one(tx: Connection, query: Select[Any], **values: object) -> Business | None:
    row = tx.execute(query, values).one_or_none()
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> Business:
    return Business(
        id=row.id,
        name=row.name,
        whatsapp_address=row.whatsapp_address,
        is_disabled=row.is_disabled,
        disabled_reason=row.disabled_reason,
        backend=Backend(row.backend),
        model=row.model,
        base_url=row.base_url,
        instructions=row.instructions,
        assistant_id=row.assistant_id,
        vector_store_ids=tuple(row.vector_store_ids),
        history=History(row.history),
        language=row.language,
        apology=row.apology,
        max_message_chars=row.max_message_chars,
        slack_layout=Layout(row.slack_layout) if row.slack_layout else None,
        slack_channel=row.slack_channel,
        slack_user_ids=tuple(sorted((row.users or "").split())),
        own_credentials=frozenset((row.providers or "").split()),
    )
