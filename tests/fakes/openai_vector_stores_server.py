"""The files and vector stores of the fake OpenAI.

A file attached to a store is `in_progress` for `polls` looks, then `completed`, or ends as a test planned it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tests.fakes.loopback import Request, Response
from tests.fakes.openai_wire import Route, new_id, refusal

if TYPE_CHECKING:
    from tests.fakes.openai_server import FakeOpenAI


#: What file search reads, by the documentation's list. platform.openai.com/docs/assistants/tools/file-search
SEARCHABLE = re.compile(r"\.(c|cpp|cs|css|docx?|go|html|java|js|json|md|pdf|php|pptx|py|rb|sh|tex|ts|txt)")


@dataclass(frozen=True)
class FakeFile:
    id: str
    filename: str
    purpose: str
    content: bytes


@dataclass
class FakeVectorStore:
    id: str
    name: str
    status: str = "completed"
    #: File id -> looks left until it is indexed.
    files: dict[str, int] = field(default_factory=dict)


class VectorStoresService:
    """State and answers of /v1/files and /v1/vector_stores."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._fake = fake
        #: How often a file is looked at before it is indexed.
        self.polls = 1
        #: How indexing ends instead, as an error code (`unsupported_file`, `invalid_file`, `server_error`); "": well.
        self.indexing_error = ""
        self.files: dict[str, FakeFile] = {}
        self.stores: dict[str, FakeVectorStore] = {}
        file, store = r"/v1/files/([^/]+)", r"/v1/vector_stores/([^/]+)"
        attached = f"{store}/files/([^/]+)"
        self.routes: list[Route] = [
            ("POST", r"/v1/files", self._upload),
            ("DELETE", file, self._delete_file),
            ("POST", r"/v1/vector_stores", self._create_store),
            ("GET", store, self._get_store),
            ("POST", f"{store}/files", self._attach),
            ("GET", attached, self._get_attached),
            ("DELETE", attached, self._detach),
        ]

    def add(self, store_id: str) -> FakeVectorStore:
        """A store with this id, as if it had been made before."""
        store = self.stores[store_id] = FakeVectorStore(store_id, store_id)
        return store

    def refuse_unknown(self, tools: list[dict[str, Any]]) -> Response | None:
        """The refusal of a file_search over a store that does not exist."""
        wanted = [store_id for tool in tools for store_id in tool.get("vector_store_ids", [])]
        unknown = [store_id for store_id in wanted if store_id not in self.stores]
        return _unknown_store(unknown[0]) if unknown else None

    def _upload(self, request: Request) -> Response:
        parts = _multipart(request)
        filename, content = parts.get("file", ("", b""))
        purpose = parts.get("purpose", ("", b""))[1].decode()
        if not filename or not purpose:
            return refusal(400, "'file' and 'purpose' are required properties.", code="missing_required_parameter")
        if not content:
            return refusal(400, "The file is empty.", code="invalid_file")
        file = FakeFile(new_id("file-"), filename, purpose, content)
        with self._fake.lock:
            self.files[file.id] = file
        return Response(
            body={
                "id": file.id,
                "object": "file",
                "bytes": len(content),
                "created_at": int(time.time()),
                "filename": filename,
                "purpose": purpose,
                "status": "processed",
            }
        )

    def _delete_file(self, request: Request, file_id: str) -> Response:
        if self.files.pop(file_id, None) is None:
            return refusal(404, f"No such File object: {file_id}", param="id")
        return Response(body={"id": file_id, "object": "file", "deleted": True})

    def _create_store(self, request: Request) -> Response:
        store = FakeVectorStore(new_id("vs_"), (request.json or {}).get("name") or "")
        with self._fake.lock:
            self.stores[store.id] = store
        return Response(body=_store_body(store))

    def _get_store(self, request: Request, store_id: str) -> Response:
        store = self.stores.get(store_id)
        return _unknown_store(store_id) if store is None else Response(body=_store_body(store))

    def _attach(self, request: Request, store_id: str) -> Response:
        file_id = request.json["file_id"]
        store = self.stores.get(store_id)
        if store is None:
            return _unknown_store(store_id)
        if file_id not in self.files:
            return refusal(404, f"File with id '{file_id}' not found.")
        suffix = PurePosixPath(self.files[file_id].filename).suffix.lower()
        if not SEARCHABLE.fullmatch(suffix):
            message = f"Files with extensions [{suffix or 'none'}] are not supported for retrieval."
            return refusal(400, message, code="unsupported_file")
        store.files[file_id] = self.polls
        return Response(body=self._attached_body(store, file_id))

    def _get_attached(self, request: Request, store_id: str, file_id: str) -> Response:
        store = self.stores.get(store_id)
        if store is None or file_id not in store.files:
            return refusal(404, f"No file found with id '{file_id}' in vector store '{store_id}'.")
        store.files[file_id] -= 1
        return Response(body=self._attached_body(store, file_id))

    def _detach(self, request: Request, store_id: str, file_id: str) -> Response:
        store = self.stores.get(store_id)
        if store is None or store.files.pop(file_id, None) is None:
            return refusal(404, f"No file found with id '{file_id}' in vector store '{store_id}'.")
        return Response(body={"id": file_id, "object": "vector_store.file.deleted", "deleted": True})

    def _attached_body(self, store: FakeVectorStore, file_id: str) -> dict[str, Any]:
        error = {"code": self.indexing_error, "message": "The file could not be parsed."}
        indexed = store.files[file_id] <= 0
        failed = indexed and bool(self.indexing_error)
        return {
            "id": file_id,
            "object": "vector_store.file",
            "created_at": int(time.time()),
            "vector_store_id": store.id,
            "usage_bytes": 0,
            "status": "failed" if failed else "completed" if indexed else "in_progress",
            "last_error": error if failed else None,
        }


def _unknown_store(store_id: str) -> Response:
    return refusal(404, f"Vector store with id '{store_id}' not found.", param="vector_store_id")


def _store_body(store: FakeVectorStore) -> dict[str, Any]:
    counts = {"in_progress": 0, "completed": len(store.files), "failed": 0, "cancelled": 0, "total": len(store.files)}
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": int(time.time()),
        "name": store.name,
        "usage_bytes": 0,
        "file_counts": counts,
        "status": store.status,
        "last_active_at": int(time.time()),
        "metadata": {},
    }


def _multipart(request: Request) -> dict[str, tuple[str, bytes]]:
    """The parts of an upload: name -> (filename, content)."""
    found = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
    if found is None:
        return {}
    parts: dict[str, tuple[str, bytes]] = {}
    for chunk in request.body.split(b"--" + found[1].encode())[1:-1]:
        head, _, content = chunk.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
        names = dict(re.findall(r'\b(name|filename)="([^"]*)"', head.decode()))
        parts[names["name"]] = (names.get("filename", ""), content)
    return parts
