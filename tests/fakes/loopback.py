"""A loopback HTTP server for fakes: keeps state, records requests, and fails, delays or cuts when told to.

A fake of a service subclasses LoopbackServer and implements `handle`. It listens on 127.0.0.1 on a free port, with a
thread per connection and keep-alive, as the real services do.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # time.monotonic()

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Response:
    """What the fake answers; `body` that is no bytes is sent as JSON."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """One planned failure.

    `matches` picks the requests; `times` how many of them it hits. With `accept` the request is handled (state
    changes) before the fault. `delay` seconds pass first; then `response` is sent instead, or the connection is reset
    when `cut`; with neither, the normal answer follows the delay.
    """

    matches: Callable[[Request], bool]
    times: int = 1
    response: Response | None = None
    delay: float = 0.0
    cut: bool = False
    accept: bool = False


class LoopbackServer(ABC):
    """Base of the fakes: `with FakeX() as fake: ... fake.url ...`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._http: ThreadingHTTPServer | None = None
        self._closing = threading.Event()

    # what a test says

    def plan(
        self,
        path: str = "",
        *,
        method: str = "",
        times: int = 1,
        response: Response | None = None,
        delay: float = 0.0,
        cut: bool = False,
        accept: bool = False,
    ) -> None:
        """Plan a fault for the next `times` requests whose path contains `path` (and, if given, of this method)."""

        def matches(request: Request) -> bool:
            return path in request.path and method in ("", request.method)

        with self.lock:
            self._faults.append(Fault(matches, times, response, delay, cut, accept))

    def heal(self) -> None:
        """Forget all planned faults."""
        with self.lock:
            self._faults.clear()

    def seen(self, path: str = "", method: str = "") -> list[Request]:
        """The recorded requests whose path contains `path`."""
        with self.lock:
            return [r for r in self.requests if path in r.path and method in ("", r.method)]

    # what a fake implements

    @abstractmethod
    def handle(self, request: Request) -> Response:
        """The service's answer to one request."""

    # the server

    @property
    def port(self) -> int:
        assert self._http is not None, "start the fake first"
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, port: int = 0) -> Self:
        self._http = _Server(("127.0.0.1", port), _handler(self))
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True, name=type(self).__name__).start()
        return self

    def close(self) -> None:
        self._closing.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def answer(self, request: Request) -> Response | None:
        """The response to send, or None to reset the connection."""
        with self.lock:
            self.requests.append(request)
            fault = next((f for f in self._faults if f.times > 0 and f.matches(request)), None)
            if fault is not None:
                fault.times -= 1
        if fault is None:
            return self.handle(request)
        handled = self.handle(request) if fault.accept else None
        if fault.delay:
            self._closing.wait(fault.delay)
        if fault.cut:
            return None
        if fault.response is not None:
            return fault.response
        return handled if handled is not None else self.handle(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business."""


def _handler(fake: LoopbackServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=parts.path,
                query=parse_qs(parts.query, keep_blank_values=True),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(length),
                at=time.monotonic(),
            )
            response = fake.answer(request)
            if response is None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
            self.send_response(response.status)
            for name, value in {"Content-Type": "application/json", **response.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _serve

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    return Handler
