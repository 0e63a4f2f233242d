"""How long `chatbotctl --help` takes, beside a hello-world Typer app: what our own imports and commands add."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import measuring
from benchmarks.measuring import BARE, Figure, Finished, Report


def measure(*, runs: int) -> Report:
    """Run both `runs` times in turns, after a run of each that makes their bytecode."""
    commands = {
        "ours": [sys.executable, "-m", "chatbotctl", "--help"],
        "bare": [sys.executable, str(BARE / "hello.py"), "--help"],
    }
    environment = measuring.environment()
    taken: dict[str, list[Finished]] = {"ours": [], "bare": []}
    measuring.note(f"startup: {runs} runs of each")
    with tempfile.TemporaryDirectory(prefix="chatbotctl-bench-") as folder:
        for turn in range(runs + 1):
            for side, command in commands.items():
                finished = measuring.run(command, environment=environment, folder=Path(folder), timeout=60)
                if turn > 0:
                    taken[side].append(finished)
    whole = {side: statistics.median(f.seconds for f in done) * 1000 for side, done in taken.items()}
    cpu = {side: statistics.median(f.cpu_seconds for f in done) * 1000 for side, done in taken.items()}
    return Report(
        title="startup: chatbotctl --help",
        bare="a hello-world Typer app's --help",
        conditions={"runs": runs},
        figures=[
            Figure("whole process, median", "ms", whole["ours"], whole["bare"]),
            Figure("processor time, median", "ms", cpu["ours"], cpu["bare"]),
        ],
    )
