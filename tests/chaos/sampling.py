"""What processes use while they run, from /proc: memory, threads, open files; and how they are called in `ps`."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.cluster import Cluster

_PROC = Path("/proc")


@dataclass(frozen=True)
class Sample:
    """One look at one process."""

    rss_mb: float
    threads: int
    files: int


class Sampler:
    """Looks at every process of a cluster once in a while."""

    def __init__(self, cluster: Cluster, *, every: float = 0.5) -> None:
        self._cluster = cluster
        self._every = every
        #: (process's name, pid) -> what was seen, oldest first.
        self.seen: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        #: Every command line that was seen.
        self.command_lines: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            for member in self._cluster.members:
                pid = member.pid
                if pid is not None:
                    self._look(member.name, pid)

    def _look(self, name: str, pid: int) -> None:
        process = _PROC / str(pid)
        try:
            status = dict(
                line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
            )
            files = sum(1 for _ in (process / "fd").iterdir())
            command_line = (process / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            return  # it has just ended
        if "VmRSS" in status:
            rss = int(status["VmRSS"].split()[0]) / 1024
            self.seen[name, pid].append(Sample(rss, int(status["Threads"]), files))
            self.command_lines.add(command_line)
