"""The socket and waitress: what it is set to and why, and how it stops without breaking a connection.

Used by run.py and metrics_listener.py only. Waitress's own `run` cannot stop taking connections while it finishes the
requests that it has, so its loop is turned from here, one step at a time.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import resource
import socket
import time
from typing import TYPE_CHECKING, Any, Literal

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer, create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]
from waitress.wasyncore import close_all, dispatcher, loop  # type: ignore[import-untyped]

from chatbotctl.core.errors import ConfigurationError, ConflictError
from chatbotctl.server import answers
from chatbotctl.server.request_reading import MAX_BODY

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Open connections. Idle ones cost a file descriptor each, and at waitress's 100 a hundred of them shut everybody out.
CONNECTION_LIMIT = 1000
#: File descriptors beside the connections: the database's, the vendors', the log's.
OTHER_FILES = 1000
#: Seconds that a connection may be idle, and seconds between looks for those that are. Twilio waits 15 at most.
IDLE_SECONDS, CLEANUP_SECONDS = 15, 5
#: Seconds that a request may take from its first byte to its last: being idle counts from the last byte that came, so
#: one header line now and then would hold a connection for good, and CONNECTION_LIMIT of them everybody's.
UNFINISHED_SECONDS = 15.0
#: Seconds between looks for those: each goes through all connections.
SWEEP_SECONDS = 1.0
#: Bytes of a request's first line and headers. Twilio's have some 2 KB; a signed query may be long.
MAX_HEADERS = 64 * 1024
#: What to choose another port with, by the section of the settings.
_PORT_OPTIONS = {"server": "--port", "metrics": "metrics.port (CHATBOTCTL_METRICS__PORT)"}
#: Seconds without a byte after which a connection without a request counts as idle while the server drains.
QUIET_SECONDS = 1.0


def bind(host: str, port: int, *, section: Literal["server", "metrics"] = "server") -> list[socket.socket]:
    """Sockets on every address that `host` means, all on one port; with port 0 on a free one. They listen later.

    Arguments:
        section: of the settings that say so; errors name it.

    Raises ConflictError when the port is taken, ConfigurationError when `host` is no address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as exc:
        raise ConfigurationError(
            f"{section}.host: {host!r} is not an address of this machine.", hint="Use 127.0.0.1 or 0.0.0.0."
        ) from exc
    bound: list[socket.socket] = []
    refused: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        wanted = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bound(family, (address[0], wanted, *address[2:])))
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                close(bound)
                raise ConflictError(
                    f"Port {wanted} on {host} is in use.",
                    hint=f"Stop what listens there, or choose another port with {_PORT_OPTIONS[section]}.",
                ) from exc
            # `localhost` may mean ::1 on a machine that has no IPv6: one address that works is enough.
            refused = exc
    if not bound:
        assert refused is not None, "getaddrinfo finds at least one address, or raises"
        raise ConfigurationError(
            f"The server cannot listen on {host}, port {port}: {refused.strerror}.",
            hint=f"Use an address of this machine as {section}.host, and a port from 1024 on: those below are root's.",
        ) from refused
    return bound


def close(sockets: list[socket.socket]) -> None:
    """Close sockets that nobody serves."""
    for one in sockets:
        one.close()


def url_of(host: str, port: int) -> str:
    """The address as it is typed."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def only_loopback(sockets: list[socket.socket]) -> bool:
    """Whether nobody but this machine can reach any of them."""
    return all(ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback for one in sockets)


class Listener:
    """Waitress on bound sockets, listening from the start. One thread calls `step` again and again.

    Arguments:
        app: what answers.
        sockets: from `bind`; closed by `stop_accepting` or `close`.
        threads: requests that are worked on at once.

    Raises ConflictError when somebody has begun to listen on the port since it was bound.
    """

    def __init__(self, app: WSGIApplication, sockets: list[socket.socket], *, threads: int) -> None:
        _allow_files(CONNECTION_LIMIT + OTHER_FILES)
        self._map: dict[int, Any] = {}
        _listen(sockets)
        self._server = create_server(
            app,
            map=self._map,
            sockets=sockets,
            threads=threads,
            connection_limit=CONNECTION_LIMIT,
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=CLEANUP_SECONDS,
            # Waitress refuses a body from this size on; MAX_BODY itself is fine.
            max_request_body_size=MAX_BODY + 1,
            max_request_header_size=MAX_HEADERS,
            asyncore_use_poll=True,
            # X-Forwarded-* reach the app as they are: signature.py asks whose they are.
            clear_untrusted_proxy_headers=False,
            ident=None,
            expose_tracebacks=False,
            log_socket_errors=False,
        )
        self._accepting = [one for one in self._map.values() if isinstance(one, TcpWSGIServer)]
        self._wake = self._accepting[0].pull_trigger
        for server in self._accepting:
            server.channel_class = _Channel
        self._next_sweep = 0.0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._accepting[0].effective_port)

    def step(self, seconds: float) -> None:
        """Move bytes and start requests; returns after at most `seconds`, sooner when something happened."""
        loop(timeout=seconds, use_poll=True, map=self._map, count=1)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            for channel in [one for one in self._map.values() if isinstance(one, _Channel)]:
                channel.close_unfinished(now)

    def wake(self) -> None:
        """Make `step` return. For signal handlers and other threads."""
        self._wake()

    def stop_accepting(self) -> None:
        """Take no new connection; those that wait to be accepted are taken in first."""
        for server in self._accepting:
            before = -1
            while before != len(server.active_channels):
                before = len(server.active_channels)
                server.handle_accept()
            # Not server.close(): that also closes what tells the loop of finished requests.
            dispatcher.close(server)

    def close_idle(self) -> bool:
        """Close connections that have been quiet for a moment; returns whether any that is not is left."""
        busy = False
        for channel in [one for one in self._map.values() if isinstance(one, HTTPChannel)]:
            if channel.requests or channel.total_outbufs_len or time.time() - channel.last_activity < QUIET_SECONDS:
                busy = True
            else:
                channel.will_close = True
        return busy

    def close(self) -> None:
        """Close everything; a request that is still worked on gets no answer."""
        self._server.task_dispatcher.shutdown(timeout=1)
        # A socket that a request's thread is writing to may be gone by now.
        close_all(self._map, ignore_all=True)


class _RefusedTask(ErrorTask):  # type: ignore[misc]
    """Waitress's answer to a request that it does not pass on (too large, not HTTP), in our words."""

    def execute(self) -> None:
        error = self.request.error
        answer = answers.for_request(error.code)
        body = answer.text.encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", answers.JSON))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Waitress's parser, where it lets a request off too lightly or not at all."""

    #: For waitress's log lines about requests that were not understood so far.
    path = ""
    empty: bool

    def received(self, data: bytes) -> int:
        """Take in bytes. Blank lines before a request are its first bytes, and no request of their own."""
        consumed = int(super().received(data))
        if self.empty:
            self.empty = self.completed = self.headers_finished = False
            self.header_plus, self.header_bytes_received = b"", 0
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Understand a request's head. A URI that is none (`http://[::1/`) is a 400 like any other nonsense."""
        try:
            super().parse_header(header_plus)
        except ValueError as exc:
            raise ParsingError("Bad URI") from exc


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _RefusedTask
    parser_class = _Parser
    #: Since when a request is being received, by time.monotonic; None between requests.
    _unfinished_since: float | None = None

    def received(self, data: bytes) -> bool:
        before = self.request
        taken = bool(super().received(data))
        if self.request is not before:
            self._unfinished_since = None if self.request is None else time.monotonic()
        return taken

    def close_unfinished(self, now: float) -> None:
        """Close when a request has been coming in for too long. Called by the thread that receives."""
        if self._unfinished_since is None:
            return
        if self.requests:
            # Nothing is read while the one before it is worked on: that is not the caller's fault.
            self._unfinished_since = now
        elif now - self._unfinished_since >= UNFINISHED_SECONDS:
            self.will_close = True


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that it does not also take the IPv4 port, which has a socket of its own where it is wanted.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


def _listen(sockets: list[socket.socket]) -> None:
    """Begin to listen, before waitress does and makes threads for it.

    Two sockets may be bound to one port (SO_REUSEADDR, for a quick restart) until one of them listens.
    Raises ConflictError.
    """
    for one in sockets:
        host, port = one.getsockname()[:2]
        try:
            one.listen()
        except OSError as exc:
            raise ConflictError(
                f"Port {port} on {host} is in use.",
                hint="Stop what listens there, or choose another port. The metrics have one of their own "
                "(metrics.port).",
            ) from exc


def _allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files, which is often 1024, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
