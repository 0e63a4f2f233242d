"""Businesses and the Slack users that belong to them. Callers give the transaction; nothing here commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, exc, func, insert, select, update

from chatbotctl.core.errors import AlreadyExists, BusinessNotFound
from chatbotctl.core.records.business import Backend, Business, History, Layout
from chatbotctl.core.records.conversation import cache_key
from chatbotctl.core.storage.prepared import Prepared
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
_BY_ADDRESS = Prepared(_select().where(businesses.c.whatsapp_address == bindparam("address")))
_BY_ID = Prepared(_select().where(businesses.c.id == bindparam("id")))
_BY_NAME = Prepared(_select().where(businesses.c.name == bindparam("name")))


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
            hint=f"Use one of: {', '.join(known)}." if known else "Add one with `chatbotctl business add`.",
        )
    return found


def listed(tx: Connection) -> list[Business]:
    """All businesses by name."""
    return [_record(row) for row in tx.execute(_ALL)]


def add(tx: Connection, *, name: str, whatsapp_address: str, values: Mapping[str, object]) -> Business:
    """Store a new business.

    Arguments:
        values: what else is known of it, by the Business record's names, `slack_user_ids` included.

    Raises AlreadyExists when the name or the number is taken.
    """
    columns, users = _columns(values)
    row = {"backend": Backend.OPENAI.value, **columns, "name": name, "whatsapp_address": whatsapp_address}
    try:
        with tx.begin_nested():
            business_id = tx.execute(insert(businesses).values(row).returning(businesses.c.id)).scalar_one()
    except exc.IntegrityError as error:
        raise _taken(tx, name, whatsapp_address) from error
    _set_slack_users(tx, business_id, users or ())
    return get(tx, business_id)


def change(tx: Connection, business: Business, values: Mapping[str, object]) -> Business:
    """Change what is given, by the Business record's names; `slack_user_ids` replaces all that there were.

    A new number bumps every conversation's epoch: what is under way would leave by the old one, which may be another
    business's by then. Raises AlreadyExists when a new name or number is taken.
    """
    columns, users = _columns(values)
    if columns:
        try:
            with tx.begin_nested():
                tx.execute(update(businesses).where(businesses.c.id == business.id).values(columns))
        except exc.IntegrityError as error:
            taken = {"name": business.name, "whatsapp_address": business.whatsapp_address, **columns}
            raise _taken(tx, taken["name"], taken["whatsapp_address"], other_than=business.id) from error
    if columns.get("whatsapp_address", business.whatsapp_address) != business.whatsapp_address:
        _withdraw_replies(tx, business)
    if users is not None:
        _set_slack_users(tx, business.id, users)
    return get(tx, business.id)


def set_disabled(tx: Connection, business: Business, disabled: bool, reason: str | None = None) -> None:
    """Disable or enable. Disabling bumps every conversation's epoch, so that no reply under way leaves any more."""
    values = {"is_disabled": disabled, "disabled_reason": reason if disabled else None}
    tx.execute(update(businesses).where(businesses.c.id == business.id).values(values))
    if disabled:
        _withdraw_replies(tx, business)


def count_conversations(tx: Connection, business: Business) -> int:
    """How many conversations a business has."""
    mine = select(func.count()).select_from(business_clients).where(business_clients.c.business_id == business.id)
    return tx.scalar(mine) or 0


def cache_keys(tx: Connection, business: Business) -> list[str]:
    """The thread cache's keys of a business's conversations, at the number that it has now.

    Locks the business first: no turn may write another key until the caller's transaction has moved or removed it.
    """
    tx.execute(select(businesses.c.id).where(businesses.c.id == business.id).with_for_update())
    query = (
        select(clients.c.address)
        .join(business_clients, business_clients.c.client_id == clients.c.id)
        .where(business_clients.c.business_id == business.id)
    )
    receiver = business.whatsapp_address
    return [cache_key(address, receiver) for address in tx.scalars(query)]


def remove(tx: Connection, business: Business) -> int:
    """Delete a business with its conversations, credentials and files; returns how many conversations went."""
    count = count_conversations(tx, business)
    tx.execute(delete(businesses).where(businesses.c.id == business.id))
    return count


def set_slack_channel(tx: Connection, business_id: int, channel: str | None) -> None:
    """Remember the business's one channel of layout `thread`."""
    tx.execute(update(businesses).where(businesses.c.id == business_id).values(slack_channel=channel))


def _withdraw_replies(tx: Connection, business: Business) -> None:
    """No reply that is under way in any conversation of the business leaves any more."""
    mine = business_clients.c.business_id == business.id
    tx.execute(update(business_clients).where(mine).values(epoch=business_clients.c.epoch + 1))


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


def _columns(values: Mapping[str, object]) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Record values as column values; beside them the Slack users, who have a table of their own, if they are given."""
    columns: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }
    users = columns.pop("slack_user_ids", None)
    unknown = set(columns) - set(businesses.c.keys())
    if unknown:
        raise KeyError(f"no such business columns: {sorted(unknown)}")
    return columns, users


def _set_slack_users(tx: Connection, business_id: int, user_ids: Sequence[str]) -> None:
    """Replace the Slack users that are invited to a business's channels."""
    tx.execute(delete(slack_user_ids).where(slack_user_ids.c.business_id == business_id))
    for user_id in dict.fromkeys(user_ids):
        tx.execute(insert(slack_user_ids).values(business_id=business_id, slack_user_id=user_id))


def _one(tx: Connection, query: Prepared, **values: object) -> Business | None:
    row = query.first(tx, **values)
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
