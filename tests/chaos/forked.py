"""Commands in processes that begin as forks of one that has loaded everything: a start without the second of loading.

Each is a process of its own, with an environment, a log and a death of its own, and opens whatever it works with after
the fork. What is tested is the same as with `subprocess`; only how the modules came into memory is not.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.loaded"])
#: multiprocessing's own records of its processes are not safe for threads.
_lock = threading.Lock()


class Forked:
    """A running command: of `subprocess.Popen`, what the tests use."""

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path) -> None:
        values = (list(arguments), dict(environment), str(folder), str(log))
        # A daemon: it does not outlive the tests.
        self._process = _context.Process(target=_run, args=values, daemon=True)
        with _lock:
            self._process.start()
        assert self._process.pid is not None, "it was started a moment ago"
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Its exit code (minus the signal that killed it); None: it runs."""
        with _lock:
            return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end; the exit code. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(arguments: list[str], environment: dict[str, str], folder: str, log: str) -> None:
    """In the new process: become the command."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with Path(log).open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    from chatbotctl.commands import app
    from chatbotctl.core import failpoints

    # It reads its environment when it is loaded, which here was before the fork.
    importlib.reload(failpoints)
    sys.argv = ["chatbotctl", *arguments]
    sys.exit(app.main(arguments))
