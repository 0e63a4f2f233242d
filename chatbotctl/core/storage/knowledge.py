"""Businesses' knowledge files, kept in the database so that every machine of an install has them."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from chatbotctl.core.errors import NotFoundError
from chatbotctl.core.records import Business, KnowledgeFile
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
        # The provider's copy is of the old content: `sync` replaces it because the hash it was uploaded with is gone.
        tx.execute(
            update(knowledge_files).where(k.id == row.id).values(content=content, sha256=sha256, provider_store_id=None)
        )
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
    """A file's content."""
    return tx.scalars(select(knowledge_files.c.content).where(knowledge_files.c.id == file.id)).one()


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


def remove(tx: Connection, file: KnowledgeFile) -> None:
    """Forget a file."""
    tx.execute(delete(knowledge_files).where(knowledge_files.c.id == file.id))


def set_uploaded(tx: Connection, file: KnowledgeFile, *, store_id: str, file_id: str) -> None:
    """Remember where a file stands at the provider."""
    tx.execute(
        update(knowledge_files)
        .where(knowledge_files.c.id == file.id)
        .values(provider_store_id=store_id, provider_file_id=file_id)
    )


def _select() -> Any:
    k = knowledge_files.c
    size = func.length(k.content).label("size")
    return select(k.id, k.name, k.sha256, size, k.added_at, k.provider_file_id, k.provider_store_id)


def _record(row: Row[Any]) -> KnowledgeFile:
    return KnowledgeFile(
        id=row.id,
        name=row.name,
        sha256=row.sha256,
        size=row.size,
        added_at=row.added_at,
        provider_file_id=row.provider_file_id,
        provider_store_id=row.provider_store_id,
    )
