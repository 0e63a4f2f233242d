"""Which thread an operator means: by its id, or by the customer's number and, where that is not enough, the business's.

Shared by the commands that take one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chatbotctl.core.addresses import bare, normalise

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from chatbotctl.core.records.business import Business
    from chatbotctl.core.records.conversation import ThreadSummary
    from chatbotctl.core.wiring import Core

IdArgument = Annotated[int | None, typer.Argument(metavar="ID", help="The thread's id.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="NUMBER", help="The customer's number, instead.")]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="NUMBER", help="The business's number, where the customer writes to several."),
]


def find_thread(core: Core, thread_id: int | None, sender: str | None, to: str | None) -> ThreadSummary:
    """The thread that is meant. Raises ConversationNotFound, BusinessNotFound, RefusedError, and a usage error."""
    from chatbotctl.core.storage import conversations

    if (thread_id is None) == (sender is None):
        raise typer.BadParameter("name the thread either by its ID or by --from.")
    if to is not None and sender is None:
        raise typer.BadParameter("goes with --from.", param_hint="--to")
    with core.database.read() as tx:
        if thread_id is not None:
            # No database takes a larger number, not even to say that it has no such row.
            return conversations.summary(tx, conversations.get(tx, min(thread_id, 2**63 - 1)).id)
        assert sender is not None
        if to is not None:
            business = business_at(tx, normalise(to))
            return conversations.summary(tx, conversations.find(tx, business, normalise(sender)).id)
        return _only_one(conversations.of_customer(tx, normalise(sender)), sender)


def business_at(tx: Connection, address: str) -> Business:
    """The business that customers reach at `address`. Raises BusinessNotFound."""
    from chatbotctl.core.errors import BusinessNotFound
    from chatbotctl.core.storage import businesses

    business = businesses.find_by_address(tx, address)
    if business is None:
        raise BusinessNotFound(
            f"No business has the number {bare(address)}.", hint="`chatbotctl business list` shows all numbers."
        )
    return business


def only_business(core: Core) -> Business:
    """The one business that there is. Raises RefusedError or BusinessNotFound."""
    from chatbotctl.core.errors import BusinessNotFound, RefusedError
    from chatbotctl.core.storage import businesses

    with core.database.read() as tx:
        known = businesses.listed(tx)
    if not known:
        raise BusinessNotFound("There is no business yet.", hint="Add one with `chatbotctl business add`.")
    if len(known) > 1:
        raise RefusedError(
            f"There are {len(known)} businesses: say which one you mean.",
            hint=f"--to {bare(known[0].whatsapp_address)} ({known[0].name}), or another of `chatbotctl business list`.",
        )
    return known[0]


def _only_one(found: list[ThreadSummary], sender: str) -> ThreadSummary:
    from chatbotctl.core.errors import ConversationNotFound, RefusedError

    if not found:
        raise ConversationNotFound(
            f"No thread is with {bare(sender)}.", hint="`chatbotctl thread list` shows those that there are."
        )
    if len(found) > 1:
        places = [f"--to {bare(each.conversation.business_address)} ({each.business_name})" for each in found]
        more = f" or {len(places) - 10} others" if len(places) > 10 else ""
        raise RefusedError(
            f"{bare(sender)} writes to {len(found)} businesses: say which one you mean.",
            hint=f"{', or '.join(places[:10])}{more}",
        )
    return found[0]
