"""Runs the server: bind, refuse what would be unsafe, serve, and drain on SIGTERM or SIGINT.

`serve` is what `chatbotctl serve` calls. The process's crew (core/flow/crew.py) works beside the server, and ends with
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.flow.crew import Crew, end_if_held_up, stopped_by_signals
from chatbotctl.core.log import event
from chatbotctl.core.storage import migrate
from chatbotctl.core.wiring import Core
from chatbotctl.server import listening, serving
from chatbotctl.server.app import create_app
from chatbotctl.server.listening import Listener
from chatbotctl.server.metrics_listener import MetricsListener

#: Seconds between looks at whether a drain is over.
LOOK_SECONDS = 0.1
#: Seconds beyond the drain that the last answers have to leave.
LAST_ANSWERS_SECONDS = 2.0


def serve(
    core: Core, *, host: str, port: int, run_worker: bool = True, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain, and return. Call it in the main thread.

    The first signal stops taking in: turns in flight have `server.drain_seconds` to finish, requests that wait get
    their answers, what is left stays stored. A second signal ends the process at once; how it ends when turns or posts
    outlast the drain: `crew.end_if_held_up`.

    Arguments:
        core: stays the caller's to close.
        host: an address or name of this machine.
        port: 0 takes a free one.
        run_worker: answer messages in this process too, and post to Slack; without it another one has to.
        on_ready: called with the server's URL once it takes requests.

    Raises SchemaMismatch, StorageUnavailable, ConfigurationError, ConflictError (a port is in use).
    """
    server = WebhookServer(core, host=host, port=port, run_worker=run_worker)
    with stopped_by_signals(server.stop):
        on_ready(server.url)
        finished = server.run()
    end_if_held_up(finished=finished, is_still_posting=server.is_still_posting)


class WebhookServer:
    """The server, listening from the start. `run` answers until `stop` is called, by any thread or signal handler.

    Arguments and what it raises: as `serve`.
    """

    def __init__(self, core: Core, *, host: str, port: int, run_worker: bool = True) -> None:
        migrate.require_fitting(core.database)
        sockets = listening.bind(host, port)
        with ExitStack() as on_failure:
            on_failure.callback(listening.close, sockets)
            app = create_app(core, allow_unsigned=_may_be_unsigned(core, loopback=listening.only_loopback(sockets)))
            self._vitals = serving.of_app(app).vitals
            self.metrics = MetricsListener(core, self._vitals)
            on_failure.callback(self.metrics.close)
            self._listener = Listener(app, sockets, threads=core.settings.server.threads)
            on_failure.pop_all()
        self._core = core
        self._crew = Crew(core.services) if run_worker else None
        self._vitals.worker = self._crew.worker if self._crew is not None else None
        self._stopping = False
        self.url = listening.url_of(host, self._listener.port)

    @property
    def is_still_posting(self) -> bool:
        """After `run`: posts to Slack are still under way, which hangs perhaps."""
        return self._crew is not None and self._crew.is_still_posting

    def stop(self) -> None:
        """Make `run` drain and return. Returns at once."""
        self._stopping = True
        self._listener.wake()

    def run(self) -> bool:
        """Serve; returns after the drain whether every turn in flight was finished."""
        if self._crew is not None:
            self._crew.start()
        self.metrics.start()
        event("serving", url=self.url, worker=self._crew.worker.owner if self._crew is not None else None)
        try:
            while not self._stopping:
                self._listener.step(1.0)
            return self._drain()
        finally:
            self._listener.close()
            self.metrics.close()

    def _drain(self) -> bool:
        """Finish what is under way: turns on a thread of their own, while this one sends the answers out."""
        seconds = self._core.settings.server.drain_seconds
        end = time.monotonic() + seconds
        event("draining", seconds=seconds)
        self._vitals.drain()
        self._listener.stop_accepting()
        finished: list[bool] = []
        turns = threading.Thread(target=lambda: finished.append(self._finish_turns(end)), name="drain", daemon=True)
        turns.start()
        while turns.is_alive() or self._listener.close_idle():
            if time.monotonic() >= end + LAST_ANSWERS_SECONDS:
                break
            self._listener.step(LOOK_SECONDS)
        event("drained", finished=bool(finished and finished[0]))
        return bool(finished and finished[0])

    def _finish_turns(self, end: float) -> bool:
        """Let turns in flight come to their end; then whoever still waits is told that the message is stored."""
        stop_waiting = self._core.services.waiters.stop
        if self._crew is None:
            stop_waiting()
            return True
        return self._crew.drain(max(0.0, end - time.monotonic()), between=stop_waiting)


def _may_be_unsigned(core: Core, *, loopback: bool) -> bool:
    """Whether webhooks that there is no auth token for are taken; refuses to serve them to the world.

    Only an install without any token takes them: a loopback address alone does not tell who calls, since a proxy or a
    tunnel on this machine passes on what the world sends.
    """
    server = core.settings.server
    if not server.verify_signatures:
        event("signatures_not_verified", level="error", reason="server.verify_signatures is false")
        return True
    if core.has_auth_token():
        return False
    tokens = (
        "Set TWILIO_AUTH_TOKEN, or give businesses their own with `chatbotctl business credentials set NAME twilio`"
    )
    if not loopback:
        raise ConfigurationError(
            "There is no Twilio auth token to check webhooks with, so the server starts on a loopback address only.",
            hint=f"{tokens}; or serve on 127.0.0.1.",
        )
    if server.public_url or server.trusted_proxies:
        setting = "server.public_url" if server.public_url else "server.trusted_proxies"
        raise ConfigurationError(
            f"There is no Twilio auth token to check webhooks with, and {setting} says that the world reaches this "
            "server.",
            hint=f"{tokens}; or unset {setting} to try it out on this machine.",
        )
    event("signatures_not_verified", level="error", reason="there is no Twilio auth token")
    return True
