"""Keeps a business's knowledge files and their copies in the AI provider's vector store the same.

Called by the `business knowledge` commands, never on a message's path. The files live in the database; here they are
copied. Every step is recorded when it is done, so a run that was cut short is finished by the next one.

The store is always one of the business's own making, never one that an operator named with `--vector-store`: that one
may be shared, and one business's files must not answer another's customers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy import Connection

from chatbotctl.core.errors import AssistantError, ConflictError, NotFoundError
from chatbotctl.core.flow.retry_policy import RetryPolicy
from chatbotctl.core.ports import KnowledgeStore
from chatbotctl.core.records.business import Business, KnowledgeFile
from chatbotctl.core.storage import businesses, knowledge
from chatbotctl.core.storage.engine import Database

#: Names of files in one error.
MOST_NAMED = 5
#: Seconds for all attempts at one file: indexing a long document takes minutes.
FILE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is to do."""

    business: Business
    #: None: the business has no files, so it needs no store.
    store_id: str | None
    #: Files of which the provider has no copy, or an old one.
    pending: tuple[KnowledgeFile, ...]
    #: How many files the provider has as they are.
    unchanged: int


def prepare(database: Database, store: KnowledgeStore, business: Business) -> Plan:
    """Find what has to be uploaded, and make sure that the business's store exists and that its assistant searches it.

    Raises AssistantError, AssistantNotUsable, StorageUnavailable.
    """
    with database.read() as tx:
        files = knowledge.listed(tx, business)
    if not files:
        return Plan(business=business, store_id=None, pending=(), unchanged=0)
    known = _store_of(business, files)
    store_id = store.ensure_store(name=f"chatbotctl {business.name}", store_id=known)
    with database.write() as tx:
        store_id = _adopt(tx, business, known, store_id)
        files = knowledge.listed(tx, business)
    pending = tuple(file for file in files if not file.is_uploaded)
    return Plan(business=business, store_id=store_id, pending=pending, unchanged=len(files) - len(pending))


def carry_out(
    database: Database, store: KnowledgeStore, plan: Plan, *, attempts: int, advance: Callable[[int], None]
) -> None:
    """Upload what is pending; a changed file's old copy goes once the new one can be searched.

    Arguments:
        attempts: how often a file is tried, with pauses, when the provider is busy or down.
        advance: told 1 for each file that was dealt with.

    A file that the provider does not take stops no other; they are named in the AssistantError at the end. An outage
    stops the run. Raises also ConflictError when another run deals with the same file.
    """
    policy = RetryPolicy(attempts=attempts, deadline=FILE_SECONDS)
    refused: list[tuple[str, AssistantError]] = []
    for file in plan.pending:
        assert plan.store_id is not None, "where there are files, there is a store"
        try:
            _copy(database, store, file, plan.store_id, policy)
        except NotFoundError:
            pass  # removed in the meantime: nothing to copy
        except AssistantError as error:
            if error.retryable or error.hint is not None:
                # The provider is down, or has something against all of them (the key, the quota).
                raise _stopped(plan.business, file.name, error) from error
            refused.append((file.name, error))
        advance(1)
    if refused:
        raise _not_taken(plan.business, refused)


def take_away(
    database: Database, store: KnowledgeStore, files: Iterable[KnowledgeFile], *, advance: Callable[[int], None]
) -> None:
    """Delete the provider's copies of these files; the files themselves stay. Raises AssistantError at the first fault.

    Arguments:
        advance: told 1 for each copy that is gone.
    """
    for file in files:
        if file.provider_file_id is None:
            continue
        assert file.provider_store_id is not None, "a copy is in a store"
        store.remove(store_id=file.provider_store_id, file_id=file.provider_file_id)
        with database.write() as tx:
            knowledge.forget_upload(tx, file)
        advance(1)


def _adopt(tx: Connection, business: Business, known: str | None, store_id: str) -> str:
    """Have the business's assistant search `store_id` (in place of `known`, if it has another) and return it.

    When another run made a store at the same time, that one is returned; ours stays empty and costs nothing.
    """
    present = businesses.get(tx, business.id)
    made_meanwhile = _store_of(present, knowledge.listed(tx, present))
    if made_meanwhile not in (None, known):
        assert made_meanwhile is not None
        store_id = made_meanwhile
    others = tuple(other for other in present.vector_store_ids if other not in (known, store_id))
    businesses.change(tx, present, {"vector_store_ids": (*others, store_id)})
    knowledge.set_store(tx, present, store_id)
    return store_id


def _store_of(business: Business, files: Iterable[KnowledgeFile]) -> str | None:
    """The store that was made for these files."""
    stores = {file.provider_store_id for file in files if file.provider_store_id is not None}
    searched = stores & set(business.vector_store_ids)
    return min(searched or stores, default=None)


def _copy(database: Database, store: KnowledgeStore, file: KnowledgeFile, store_id: str, policy: RetryPolicy) -> None:
    """Upload one file, and delete the copy of its old content.

    In this order: the assistant is never without the file, and an old copy stays on record until it is gone. Broken
    off in between, the worst is a second copy of the new content.
    """
    with database.read() as tx:
        content = knowledge.content(tx, file)
    old_id = file.provider_file_id
    new_id = policy.run(lambda _: store.upload(store_id=store_id, filename=_provider_name(file.name), content=content))
    try:
        if old_id is not None:
            store.remove(store_id=store_id, file_id=old_id)
    except (AssistantError, KeyboardInterrupt):
        with suppress(AssistantError):
            store.remove(store_id=store_id, file_id=new_id)
        raise
    with database.write() as tx:
        recorded = knowledge.set_uploaded(tx, file, store_id=store_id, file_id=new_id)
    if not recorded:
        store.remove(store_id=store_id, file_id=new_id)
        raise ConflictError(
            f"{file.name} was removed, or uploaded by another run, in the meantime.",
            hint="Sync once more to see that all is well.",
        )


def _provider_name(name: str) -> str:
    """A file's name as the provider takes it: without folders, with a suffix that it knows."""
    path = PurePosixPath(name.replace("/", "-"))
    suffix = path.suffix.lower()
    return str(path.with_suffix(".md" if suffix == ".markdown" else suffix))


def _stopped(business: Business, name: str, error: AssistantError) -> AssistantError:
    """Why the run ended at this file, and how to go on."""
    again = f"`chatbotctl business knowledge sync {business.name}` goes on where this run ended."
    return AssistantError(
        f"{name} could not be uploaded. {error.message}",
        reason=error.reason,
        retryable=error.retryable,
        hint=f"{error.hint} {again}" if error.hint else again,
    )


def _not_taken(business: Business, refused: list[tuple[str, AssistantError]]) -> AssistantError:
    """Which files the provider did not take, and why."""
    named = "; ".join(f"{name} ({error.reason})" for name, error in refused[:MOST_NAMED])
    more = f"; and {len(refused) - MOST_NAMED} more" if len(refused) > MOST_NAMED else ""
    return AssistantError(
        f"The AI provider did not take {len(refused)} of the files: {named}{more}.",
        reason=refused[0][1].reason,
        hint="Mend them and add them again, or take them out with "
        f"`chatbotctl business knowledge remove {business.name}`.",
    )
