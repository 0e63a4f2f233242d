"""An install of several processes that can be injured: each is started, stopped, killed, frozen and started again.

All of them share one home, one database and, if it has one, one Redis. A process keeps its port over restarts, as
behind a proxy.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from tests.acceptance.install import COMMAND, PATIENCE, Install, Process, Server, wait_for
from tests.chaos.forked import Forked
from tests.chaos.world import TENANTS, World
from tests.cli import chatbotctl
from tests.services import free_port


class Kind(enum.Enum):
    """What a process does, by the command that starts it."""

    #: Takes messages in and runs turns.
    SERVE = "serve"
    #: Takes messages in only.
    INTAKE = "serve --no-worker"
    #: Runs turns only.
    WORKER = "worker"

    @property
    def listens(self) -> bool:
        return self is not Kind.WORKER


#: What a process prints once it is at work.
_READY = re.compile(f"{Server.READY}|{Process.READY}")
#: Commands inside this process take its environment and working folder: one install after the other.
_SETTING_UP = threading.Lock()


class Member:
    """One process of the install."""

    def __init__(
        self, install: Install, name: str, kind: Kind, environment: Mapping[str, str], *, forked: bool = False
    ) -> None:
        self.name = name
        self.kind = kind
        self.port = free_port()
        self.log_file = install.home / "logs" / f"{name}.log"
        self.log_file.parent.mkdir(exist_ok=True)
        #: When it was killed (time.time()).
        self.killed_at: list[float] = []
        self._install = install
        self._environment = dict(environment)
        self._forked = forked
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._log_before = 0

    @property
    def url(self) -> str:
        """Where it takes webhooks."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process, while that runs (or is frozen)."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def log(self) -> str:
        """All that it has printed, in all its lives."""
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    def start(self, *, ready: bool = True, **environment: str) -> None:
        """Start it; `environment` is for this life only.

        Arguments:
            ready: come back only once it is at work.
        """
        assert self.pid is None, f"{self.name} runs already"
        arguments = [*self.kind.value.split(), *(["--port", str(self.port)] if self.kind.listens else [])]
        self.log_file.touch()
        self._log_before = self.log_file.stat().st_size
        self._process = self._launch(arguments, self._install.env({**self._environment, **environment}))
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Come back once it is at work."""
        wait_for(f"{self.name} at work", lambda: self.is_ready or self.pid is None)
        assert self.pid is not None, f"{self.name} ended at once:\n{self.log[-2000:]}"

    @property
    def is_ready(self) -> bool:
        """Whether it has said so in this life."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_before)
            return _READY.search(log.read().decode("utf-8", "replace")) is not None

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """SIGKILL: the plug."""
        self._signal(signal.SIGKILL)
        self.killed_at.append(time.time())
        self.ended()

    def freeze(self) -> None:
        """SIGSTOP: alive, holding what it holds, and not answering."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.wait(PATIENCE)

    def _launch(self, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes] | Forked:
        home = self._install.home
        if self._forked:
            return Forked(arguments, environment=environment, folder=home, log=self.log_file)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [COMMAND, *arguments],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was never started"
        self._process.send_signal(number)


@dataclass
class Cluster:
    """The processes of one install and the world around them."""

    install: Install
    world: World
    database_url: str
    #: Processes start as forks, without the second of loading (tests/chaos/forked.py).
    forked: bool = False
    members: list[Member] = field(default_factory=list)

    def add(self, kind: Kind, **environment: str) -> Member:
        """One more process, not started yet."""
        name = f"{kind.name.lower()}-{len(self.members) + 1}"
        member = Member(self.install, name, kind, environment, forked=self.forked)
        self.members.append(member)
        return member

    @property
    def doors(self) -> list[Member]:
        """The processes that take webhooks."""
        return [member for member in self.members if member.kind.listens]

    def start(self) -> None:
        """Start all that do not run, side by side."""
        started = [member for member in self.members if member.pid is None]
        for member in started:
            member.start(ready=False)
        for member in started:
            member.wait_until_ready()

    def close(self) -> None:
        """End every process."""
        for member in self.members:
            if member.pid is not None:
                member.kill()


@contextlib.contextmanager
def cluster(
    home: Path,
    world: World,
    kinds: list[Kind],
    *,
    environment: Mapping[str, str],
    database_url: str | None = None,
    forked: bool = False,
) -> Iterator[Cluster]:
    """An install with the run's businesses in it and these processes, all at work.

    Arguments:
        environment: settings for all of them, beside the vendors'.
        database_url: of the scaled-out store; SQLite in the home without it.
        forked: start processes as forks.
    """
    stores = {} if database_url is None else {"DATABASE_URL": database_url}
    install = Install(home, {**world.environment, **stores, **environment})
    with _SETTING_UP:
        _set_up(install)
    made = Cluster(install, world, database_url or f"sqlite:///{home / 'chatbotctl.db'}", forked=forked)
    for kind in kinds:
        made.add(kind)
    try:
        made.start()
        yield made
    finally:
        made.close()


def _set_up(install: Install) -> None:
    """Database, key and businesses, by the commands that an operator types; in this process, which is quicker."""
    with mock.patch.dict(os.environ, install.env(), clear=True), contextlib.chdir(install.home):
        _command("init")
        for tenant in TENANTS:
            options = ("--backend", tenant.backend, "--instructions", f"Be kind. {tenant.canary}")
            _command("business", "add", tenant.name, "--number", tenant.number, "--slack-user", "U1", *options)
            _command("business", "credentials", "set", tenant.name, "openai", stdin=tenant.openai_key + "\n")
            page = install.home / f"{tenant.name}.md"
            page.write_text(f"# Opening hours\n\nWe open at eight. {tenant.canary}\n")
            _command("business", "knowledge", "add", tenant.name, str(page))


def _command(*arguments: str, stdin: str = "") -> None:
    done = chatbotctl(*arguments, stdin=stdin)
    assert done.code == 0, f"{arguments} ended with {done.code}:\n{done.out}\n{done.err}"
