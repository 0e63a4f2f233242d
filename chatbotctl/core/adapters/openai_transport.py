"""The HTTP client under the OpenAI SDK: one certificate store for all clients, and answers that end in time.

Imported by openai_client when it makes its first client, because httpx2 is slow to load.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx2
import openai

if TYPE_CHECKING:
    import ssl

_DEADLINE = "chatbotctl.deadline"


def http_client() -> httpx2.Client:
    """A client with the SDK's own settings whose answers are read to a deadline.

    The library's read timeout counts from byte to byte. Servers under load send blank lines to keep the connection
    (DeepSeek documents it), so an answer could take for ever under a timeout of seconds, and hold its conversation.
    """
    return openai.DefaultHttpxClient(verify=_certificates(), event_hooks={"request": [_start], "response": [_bound]})


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Loading them takes 35 ms and 1 MB; businesses with a key of their own have a client of their own."""
    return httpx2.create_ssl_context()


def _start(request: httpx2.Request) -> None:
    seconds = request.extensions.get("timeout", {}).get("read")
    if seconds is not None:
        request.extensions[_DEADLINE] = time.monotonic() + seconds


def _bound(response: httpx2.Response) -> None:
    deadline = response.request.extensions.get(_DEADLINE)
    if deadline is not None and isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Bounded(response.stream, response.request, deadline)


class _Bounded(httpx2.SyncByteStream):
    """A body that is given up at the first bytes after its deadline.

    Silence after some bytes is still ended by the read timeout alone, so a request takes twice its timeout at most.
    """

    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, deadline: float) -> None:
        self._stream = stream
        self._request = request
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("The answer did not end in time.", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
