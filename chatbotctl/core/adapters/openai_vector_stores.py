"""Keeps a business's knowledge files in an OpenAI vector store, which file_search reads.

Called by the `business knowledge` commands, never on a message's path. Built by wiring.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from chatbotctl.core.adapters.openai_client import LazyClient, code_or, patience, provider_errors, unreadable
from chatbotctl.core.adapters.openai_turn import text_or_none
from chatbotctl.core.errors import AssistantError

if TYPE_CHECKING:
    from openai import OpenAI

#: Seconds for one request; an upload carries a whole file.
REQUEST_SECONDS = 60.0
#: Seconds that indexing one file may take: long documents take minutes.
INDEXING_SECONDS = 300.0
#: Seconds between looks at a file that is being indexed.
FIRST_LOOK, LAST_LOOK, GROWTH = 0.2, 2.0, 1.5
#: Codes of a file that could not be indexed which a later attempt may mend.
_PASSING = frozenset({"server_error", "rate_limit_exceeded"})


class OpenAIVectorStores:
    """A KnowledgeStore over /v1/vector_stores and /v1/files.

    Arguments: `api_key`, None for servers that ask for none; `base_url`, None for OpenAI's own; `indexing_timeout` in
    seconds per file.
    """

    def __init__(
        self, *, api_key: str | None, base_url: str | None, indexing_timeout: float = INDEXING_SECONDS
    ) -> None:
        self._client = LazyClient(api_key=api_key, base_url=base_url)
        self._indexing_timeout = indexing_timeout

    def ensure_store(self, *, name: str, store_id: str | None) -> str:
        """The id of the store: `store_id` when the provider still has it, else a new one called `name`."""
        client = self._client.get()
        if store_id is not None and _is_there(client, store_id):
            return store_id
        with provider_errors():
            return _id(client.vector_stores.create(name=name, timeout=patience(REQUEST_SECONDS)))

    def upload(self, *, store_id: str, filename: str, content: bytes) -> str:
        """Upload a file and attach it to the store; returns the provider's file id once it is indexed.

        Raises AssistantError, and leaves no file behind, when the provider does not take or cannot index it.
        """
        client = self._client.get()
        with provider_errors():
            file_id = _id(
                client.files.create(
                    file=(_searchable(filename), content), purpose="assistants", timeout=patience(REQUEST_SECONDS)
                )
            )
        try:
            self._index(client, store_id, file_id)
        except (AssistantError, KeyboardInterrupt):  # somebody who tires of waiting presses Ctrl-C here
            with suppress(AssistantError):
                self.remove(store_id=store_id, file_id=file_id)
            raise
        return file_id

    def remove(self, *, store_id: str, file_id: str) -> None:
        """Take a file out of the store and delete it; a file, or a store, that is gone already is fine."""
        from openai import NotFoundError

        client = self._client.get()
        with provider_errors(), suppress(NotFoundError):
            client.vector_stores.files.delete(file_id, vector_store_id=store_id, timeout=patience(REQUEST_SECONDS))
        with provider_errors(), suppress(NotFoundError):
            client.files.delete(file_id, timeout=patience(REQUEST_SECONDS))

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._client.close()

    def _index(self, client: OpenAI, store_id: str, file_id: str) -> None:
        """Attach the file to the store and wait until it can be searched."""
        deadline = time.monotonic() + self._indexing_timeout
        pause = FIRST_LOOK
        with provider_errors():
            file = client.vector_stores.files.create(store_id, file_id=file_id, timeout=patience(REQUEST_SECONDS))
            while getattr(file, "status", None) == "in_progress":
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssistantError(
                        "The AI provider took too long to index the file.", reason="timeout", retryable=True
                    )
                time.sleep(min(pause, left))
                pause = min(pause * GROWTH, LAST_LOOK)
                file = client.vector_stores.files.retrieve(
                    file_id, vector_store_id=store_id, timeout=patience(REQUEST_SECONDS)
                )
        status = getattr(file, "status", None)
        if status not in ("completed", "failed", "cancelled"):
            raise unreadable()
        if status != "completed":
            code = code_or(getattr(getattr(file, "last_error", None), "code", None), status)
            raise AssistantError("The AI provider could not index the file.", reason=code, retryable=code in _PASSING)


def _is_there(client: OpenAI, store_id: str) -> bool:
    """Whether the provider still has the store: one that expired can no longer be searched."""
    from openai import NotFoundError

    with provider_errors(), suppress(NotFoundError):
        store = client.vector_stores.retrieve(store_id, timeout=patience(REQUEST_SECONDS))
        return getattr(store, "status", None) != "expired"
    return False


def _searchable(filename: str) -> str:
    """The name to upload a file by: file search knows Markdown as `.md` only, and refuses `.markdown`."""
    stem, dot, suffix = filename.rpartition(".")
    return f"{stem}.md" if dot and suffix.lower() == "markdown" else filename


def _id(made: object) -> str:
    made_id = text_or_none(getattr(made, "id", None))
    if made_id is None:
        raise unreadable()
    return made_id
