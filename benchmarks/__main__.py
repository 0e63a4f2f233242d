"""`python -m benchmarks [NAME ...]`: runs the benchmarks and prints their figures; docs/benchmarks.md explains them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from benchmarks.measuring import Failed, Report, note

#: Smallest first in what they load into this process: `rebuild` needs it small (measuring.Finished.peak_mb).
NAMES = ("startup", "rebuild", "webhook")
DESCRIPTION = (
    "Run the benchmarks and print their figures beside those of bare baselines; docs/benchmarks.md explains them."
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
    if name == "startup":
        from benchmarks import startup

        return [startup.measure(runs=options.runs)]
    if name == "rebuild":
        from benchmarks import rebuild

        return [rebuild.measure(conversations=options.conversations, rounds=options.rounds)]
    from benchmarks import webhook

    return webhook.measure(
        messages=options.messages, clients=options.clients, rounds=options.rounds, backend=options.backend
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all unless given")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--rounds", type=number, default=3, help="rebuild, webhook: turns of each side [3]")
    parser.add_argument("--runs", type=number, default=20, help="startup: runs of each side [20]")
    parser.add_argument("--conversations", type=number, default=200_000, help="rebuild: how many [200000]")
    parser.add_argument(
        "--full", dest="conversations", action="store_const", const=1_000_000, help="rebuild: 1000000 conversations"
    )
    parser.add_argument("--messages", type=number, default=300, help="webhook: per round and side [300]")
    parser.add_argument("--clients", type=number, default=8, help="webhook: connections at once [8]")
    parser.add_argument(
        "--backend", choices=("chat", "knowledge"), default="chat", help="webhook: the assistant [chat]"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return options


def number(text: str) -> int:
    """A count, as argparse asks for it."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is not 1 or more")
    return count


if __name__ == "__main__":
    main()
