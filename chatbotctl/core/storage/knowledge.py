"""Businesses' knowledge files, kept in the database so that every machine of an install has them.

Each row also knows its copy at an AI provider (upkeep.knowledge_sync makes and takes away copies): which store, which
file there, and the hash of what was uploaded. A changed file keeps all three, so that its old copy can be replaced.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from chatbotctl.core.errors import NotFoundError
from chatbotctl.core.records.business import Business, KnowledgeFile
from chatbotctl.core.storage.engine import now
from chatbotctl.core.storage.schema import knowledge_files

#: Suffixes that the offline assistant reads; a provider may take more.
TEXT_SUFFIXES = (".md", ".markdown", ".txt")


def put(tx: Connection, business: Business, name: str, content: bytes) -> bool:
    """Store a file, over one of the same name; returns False when it is there already with the same content."""
    k = knowledge_files.c
    sha256 = hashlib.sha256(content).hexdigest()
    row = tx.execute(select(k.id, k.sha256).where(k.business_id == business.id, k.name == name)).one_or_none()
    if row is not None and row.sha256 == sha256:
        return False
    if row is None:
        tx.execute(insert(knowledge_files).values(business_id=business.id, name=name, content=content, sha256=sha256))
    else:
        tx.execute(update(knowledge_files).where(k.id == row.id).values(content=content, sha256=sha256, added_at=now()))
    return True


def listed(tx: Connection, business: Business) -> list[KnowledgeFile]:
    """A business's files by name."""
    query = _select().where(knowledge_files.c.business_id == business.id).order_by(knowledge_files.c.name)
    return [_record(row) for row in tx.execute(query)]


def get(tx: Connection, business: Business, name: str) -> KnowledgeFile:
    """One file. Raises NotFoundError."""
    k = knowledge_files.c
    row = tx.execute(_select().where(k.business_id == business.id, k.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"{business.name} has no knowledge file {name!r}.",
            hint=f"`chatbotctl business knowledge list {business.name}` shows its files.",
        )
    return _record(row)


def content(tx: Connection, file: KnowledgeFile) -> bytes:
    """A file's content. Raises NotFoundError when it was removed in the meantime."""
    found = tx.scalars(select(knowledge_files.c.content).where(knowledge_files.c.id == file.id)).one_or_none()
    if found is None:
        raise NotFoundError(f"The knowledge file {file.name!r} was removed in the meantime.")
    return found


def texts(tx: Connection, business: Business) -> list[tuple[str, str]]:
    """The files that the offline assistant reads: (name, text)."""
    query = select(knowledge_files.c.name, knowledge_files.c.content).where(
        knowledge_files.c.business_id == business.id
    )
    return [
        (row.name, row.content.decode("utf-8", errors="replace"))
        for row in tx.execute(query.order_by(knowledge_files.c.name))
        if row.name.lower().endswith(TEXT_SUFFIXES)
    ]


def version(tx: Connection, business: Business) -> str:
    """A short text that changes whenever the files do."""
    k = knowledge_files.c
    query = select(k.name, k.sha256).where(k.business_id == business.id).order_by(k.name)
    return hashlib.sha256(repr([tuple(row) for row in tx.execute(query)]).encode()).hexdigest()[:16]


def remove(tx: Connection, file: KnowledgeFile) -> bool:
    """Forget a file, unless it has got another copy at the provider than `file` says; returns whether it went."""
    return tx.execute(delete(knowledge_files).where(*_as_read(file))).rowcount > 0


def set_store(tx: Connection, business: Business, store_id: str) -> None:
    """Remember the provider's store that a business's files belong in; copies in another count as outdated."""
    k = knowledge_files.c
    tx.execute(
        update(knowledge_files)
        .where(k.business_id == business.id, k.provider_store_id.is_distinct_from(store_id))
        .values(provider_store_id=store_id, uploaded_sha256=None)
    )


def set_uploaded(tx: Connection, file: KnowledgeFile, *, store_id: str, file_id: str) -> bool:
    """Remember the copy that was made of `file` as it was read.

    Returns False, and remembers nothing, when the file is gone or somebody else made a copy in the meantime.
    """
    values = {"provider_store_id": store_id, "provider_file_id": file_id, "uploaded_sha256": file.sha256}
    return tx.execute(update(knowledge_files).where(*_as_read(file)).values(values)).rowcount > 0


def forget_upload(tx: Connection, file: KnowledgeFile) -> None:
    """The provider's copy is gone."""
    tx.execute(update(knowledge_files).where(*_as_read(file)).values(provider_file_id=None, uploaded_sha256=None))


def _as_read(file: KnowledgeFile) -> tuple[ColumnElement[bool], ...]:
    """The file's row, as long as its copy at the provider is still the one that `file` knows."""
    k = knowledge_files.c
    return k.id == file.id, k.provider_file_id.is_not_distinct_from(file.provider_file_id)


def _select() -> Select[Any]:
    k = knowledge_files.c
    size = func.length(k.content).label("size")
    return select(k.id, k.name, k.sha256, size, k.added_at, k.provider_store_id, k.provider_file_id, k.uploaded_sha256)


def _record(row: Row[Any]) -> KnowledgeFile:
    return KnowledgeFile(
        id=row.id,
        name=row.name,
        sha256=row.sha256,
        size=row.size,
        added_at=row.added_at,
        provider_store_id=row.provider_store_id,
        provider_file_id=row.provider_file_id,
        uploaded_sha256=row.uploaded_sha256,
    )
