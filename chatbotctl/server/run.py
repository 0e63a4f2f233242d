"""Runs the server: bind, refuse what would be unsafe, serve, and drain on SIGTERM or SIGINT.

`serve` is what `chatbotctl serve` calls. The process's worker and Slack poster run beside the server and end with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from chatbotctl.core.errors import ConfigurationError
from chatbotctl.core.flow.slack_poster import SlackPoster
from chatbotctl.core.flow.worker import Worker
from chatbotctl.core.log import event
from chatbotctl.core.storage import migrate
from chatbotctl.core.wiring import Core
from chatbotctl.server import listening, serving
from chatbotctl.server.app import create_app
from chatbotctl.server.listening import Listener

#: Seconds between looks at whether a drain is over.
LOOK_SECONDS = 0.1
#: Seconds beyond the drain that the last answers have to leave.
LAST_ANSWERS_SECONDS = 2.0
#: What a process that could not finish its turns ends with: they stay stored, but somebody waits for them.
UNFINISHED_EXIT_CODE = 1


def serve(
    core: Core, *, host: str, port: int, run_worker: bool = True, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain, and return. Call it in the main thread.

    The first signal stops taking in: turns in flight have `server.drain_seconds` to finish, requests that wait get
    their answers, what is left stays stored. A second signal ends the process at once, and so does the end of the
    drain when turns are still in flight (UNFINISHED_EXIT_CODE) or posts to Slack are (0: those stay owed, and nobody
    waits for them): their threads would hold the process.

    Arguments:
        core: stays the caller's to close.
        host: an address or name of this machine.
        port: 0 takes a free one.
        run_worker: answer messages in this process too, and post to Slack; without it another one has to.
        on_ready: called with the server's URL once it takes requests.

    Raises SchemaMismatch, StorageUnavailable, ConfigurationError, ConflictError (the port is in use).
    """
    server = WebhookServer(core, host=host, port=port, run_worker=run_worker)
    with _stopped_by_signals(server):
        on_ready(server.url)
        finished = server.run()
    if not finished or server.is_still_posting:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if finished else UNFINISHED_EXIT_CODE)


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
            self._listener = Listener(app, sockets, threads=core.settings.server.threads)
            on_failure.pop_all()
        self._core = core
        self._serving = serving.of_app(app)
        self._worker = Worker(core.services) if run_worker else None
        self._poster = SlackPoster(core.services) if run_worker else None
        self._stopping = False
        #: After `run`: posts to Slack are still under way, which hangs perhaps.
        self.is_still_posting = False
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._listener.port}"

    def stop(self) -> None:
        """Make `run` drain and return. Returns at once."""
        self._stopping = True
        self._listener.wake()

    def run(self) -> bool:
        """Serve; returns after the drain whether every turn in flight was finished."""
        if self._worker is not None:
            self._worker.start()
        if self._poster is not None:
            self._poster.start()
        event("serving", url=self.url, worker=self._worker is not None)
        try:
            while not self._stopping:
                self._listener.step(1.0)
            return self._drain()
        finally:
            self._listener.close()

    def _drain(self) -> bool:
        """Finish what is under way: turns on a thread of their own, while this one sends the answers out."""
        seconds = self._core.settings.server.drain_seconds
        end = time.monotonic() + seconds
        event("draining", seconds=seconds)
        self._serving.draining = True
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
        finished = True
        if self._worker is not None:
            finished = self._worker.drain(max(0.0, end - time.monotonic()))
        self._core.services.waiters.stop()
        if self._poster is not None:
            self.is_still_posting = not self._poster.drain(max(0.0, end - time.monotonic()))
        return finished


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


@contextmanager
def _stopped_by_signals(server: WebhookServer) -> Iterator[None]:
    """SIGTERM and SIGINT stop the server; a second one ends the process."""
    asked = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        server.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
