"""`python -m benchmarks [NAME ...]` runs the benchmarks and prints their figures; docs/performance.md explains them."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys

from benchmarks.measuring import Failed, Report, note

#: Smallest first in what they load into this process: `rebuild` needs it small (measuring.Finished.peak_mb).
NAMES = ("startup", "rebuild", "accepting", "replying", "waking", "waiting", "growth")
DESCRIPTION = (
    "Run the benchmarks and print their figures beside those of bare baselines; docs/performance.md explains them."
)


def main() -> None:
    """Run what was asked for."""
    options = _options()
    machine = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
    }
    note(", ".join(f"{key} {value}" for key, value in machine.items()))
    reports = {}
    for name in NAMES:
        if name in (options.names or NAMES):
            try:
                reports[name] = _measure(name, options)
            except Failed as failure:
                sys.exit(f"{name} failed: {failure}")
            if not options.json:
                print("\n\n".join(report.table() for report in reports[name]) + "\n", flush=True)
    if options.json:
        documents = {name: [report.document() for report in several] for name, several in reports.items()}
        print(json.dumps({"machine": machine, **documents}, indent=2))


def _measure(name: str, options: argparse.Namespace) -> list[Report]:
    module = importlib.import_module(f"benchmarks.{name}")
    given = {
        "startup": {"runs": options.runs},
        "rebuild": {"conversations": options.conversations, "rounds": options.rounds},
        "accepting": {"messages": options.messages, "connections": options.connections, "rounds": options.rounds},
        "replying": {
            "messages": options.messages,
            "connections": options.connections,
            "rounds": options.rounds,
            "backend": options.backend,
        },
        "waking": {"messages": max(1, options.messages // 10)},
        "waiting": {"conversations": options.waiting},
        "growth": {"sizes": options.sizes, "rounds": options.rounds},
    }
    measured = module.measure(**given[name])
    return measured if isinstance(measured, list) else [measured]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all unless given")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=number, default=3, help="all but startup: turns of each side [3]")
    parser.add_argument("--runs", type=number, default=20, help="startup: runs of each side [20]")
    parser.add_argument("--conversations", type=number, default=200_000, help="rebuild: how many [200000]")
    parser.add_argument("--messages", type=number, default=3000, help="messages per round and side [3000]")
    parser.add_argument("--connections", type=number, default=16, help="connections at once [16]")
    parser.add_argument("--waiting", type=number, default=1000, help="waiting: conversations at once [1000]")
    parser.add_argument("--sizes", type=_sizes, default=(100_000,), help="growth: stored messages [100000]")
    parser.add_argument(
        "--full",
        action="store_const",
        const={"conversations": 1_000_000, "sizes": (100_000, 5_000_000)},
        default={},
        help="rebuild: 1000000 conversations; growth: 100000 and 5000000 messages (an hour, 10 GB)",
    )
    parser.add_argument(
        "--backend", choices=("openai", "chat", "knowledge"), default="openai", help="replying: the assistant [openai]"
    )
    options = parser.parse_args()
    vars(options).update(options.full)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return options


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(number(size) for size in text.split(","))


def number(text: str) -> int:
    """A count, as argparse asks for it."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is not 1 or more")
    return count


if __name__ == "__main__":
    main()
