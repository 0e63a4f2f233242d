"""What the benchmarks share: figures with their ratio, the table they are printed in, and processes under measurement.

A benchmark measures the product and a bare baseline in turns, in one run on one machine: their ratio says something
where absolute times do not. This module knows neither the product nor any baseline.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

#: The bare baselines: programs, run by their path.
BARE = Path(__file__).resolve().parent / "bare"

#: Of the machine's environment only this reaches a measured process: no setting of the person who runs it.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
#: Seconds that a server is given to come up or to go down.
_SERVER_SECONDS = 30.0
#: What `ru_maxrss` counts in: kilobytes, on macOS bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Failed(Exception):
    """A side did not do what is measured, so that there are no figures."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, on both sides where there is something to compare it with."""

    name: str
    unit: str
    ours: float
    bare: float | None = None
    #: What is wanted, in words; empty where there is no aim.
    aim: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours in terms of the baseline's."""
        return None if self.bare is None else self.ours / self.bare


@dataclass(frozen=True)
class Report:
    """One benchmark's outcome."""

    title: str
    #: What the baseline is.
    bare: str
    figures: Sequence[Figure]
    #: What it depends on: counts, rounds, the servers' settings.
    conditions: Mapping[str, object] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        rows = [
            {"name": f.name, "unit": f.unit, "ours": f.ours, "bare": f.bare, "ratio": f.ratio, "aim": f.aim}
            for f in self.figures
        ]
        return {"title": self.title, "bare": self.bare, "conditions": dict(self.conditions), "figures": rows}

    def table(self) -> str:
        """As people read it."""
        rows = [("", "ours", "bare", "ratio", "")]
        rows += [
            (f"{f.name} ({f.unit})", _short(f.ours), _short(f.bare), "" if f.ratio is None else f"{f.ratio:.2f}", f.aim)
            for f in self.figures
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        conditions = (
            f"{key} {f'{value:,}' if isinstance(value, int) else value}" for key, value in self.conditions.items()
        )
        lines = [self.title, f"bare: {self.bare}", ", ".join(conditions)]
        for name, *numbers, aim in rows:
            cells = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
            lines.append("  ".join((name.ljust(widths[0]), *cells, aim)).rstrip())
        return "\n".join(lines)


@dataclass(frozen=True)
class Finished:
    """A process that came to its end."""

    seconds: float
    #: Of processor time, its own and the system's for it: what other work on the machine disturbs least.
    cpu_seconds: float
    #: The most memory it had (MB). Never less than this process had when it started it, because the system counts from
    #: before the exec: so a benchmark of memory keeps the SDKs and the database toolkit out of this process.
    peak_mb: float
    stdout: str


def run(command: Sequence[str], *, environment: Mapping[str, str], folder: Path, timeout: float = 900.0) -> Finished:
    """Run a program to its end.

    Arguments:
        folder: where it runs; for the product one without a config file.
        timeout: seconds; then it is killed.

    Raises Failed with what it said when it fails or is killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(environment), cwd=folder
        )
        killer = threading.Timer(timeout, process.kill)
        killer.daemon = True
        killer.start()
        # wait4 and not Popen.wait: it tells this one child's memory, where getrusage has the greatest of all children.
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        finally:
            killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said = [_read(out), _read(err)]
    if process.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(said)}")
    return Finished(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * _RSS_UNIT / 1e6,
        stdout=said[0],
    )


@dataclass(frozen=True)
class Process:
    """A process that runs."""

    pid: int

    @property
    def peak_mb(self) -> float:
        """The most memory that it had so far (MB of 1,000,000 bytes). Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kilobytes = int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])
        return kilobytes * 1024 / 1e6

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has taken so far. Linux only."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server(Process):
    """A process that serves on the loopback interface."""

    port: int


@contextlib.contextmanager
def serving(command: Sequence[str], *, port: int, environment: Mapping[str, str], folder: Path) -> Iterator[Server]:
    """A server process that listens on 127.0.0.1:`port` during the block. Raises Failed when it does not."""
    with running(command, environment=environment, folder=folder, is_up=lambda _: _listens(port)) as process:
        yield Server(process.pid, port)


@contextlib.contextmanager
def running(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, is_up: Callable[[str], bool]
) -> Iterator[Process]:
    """A process that runs during the block. Raises Failed when it does not come up.

    Arguments:
        is_up: asked with all that it said so far.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=dict(environment), cwd=folder
        )
        try:
            _wait_until(process, lambda: is_up(_read(said)))
            yield Process(process.pid)
        except BaseException:
            note(f"The last of what {' '.join(command)} said:\n{_read(said)[-2000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(_SERVER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment(**settings: str) -> dict[str, str]:
    """A measured process's environment: the machine's bare necessities and `settings`."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | settings


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def percentile(values: Sequence[float], percent: int) -> float:
    """The least value that `percent` of all values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def note(text: str) -> None:
    """Say on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def _wait_until(process: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> None:
    end = time.monotonic() + _SERVER_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if is_up():
            return
        time.sleep(0.02)
    raise Failed("it did not come up")


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _read(file: IO[bytes]) -> str:
    # Not by seek and read: a process that still writes to it shares the place in the file.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
