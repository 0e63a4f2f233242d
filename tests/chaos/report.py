"""What a run counted and what it found broken: a table for people, and one error that names every case."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Broken cases shown of each invariant.
_SHOWN = 10


def quantiles(values: Sequence[float]) -> str:
    """Median, 99th percentile and maximum of seconds."""
    if not values:
        return "-"
    ordered = sorted(values)
    late = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return f"p50 {statistics.median(ordered):.2f} s, p99 {late:.2f} s, max {ordered[-1]:.2f} s"


@dataclass
class Report:
    """Figures in order, and what is broken."""

    title: str
    seed: int
    figures: list[tuple[str, str]] = field(default_factory=list)
    #: Invariant -> its broken cases, each naming a sid, a conversation, a channel or a process.
    broken: dict[str, list[str]] = field(default_factory=dict)

    def note(self, name: str, value: object) -> None:
        """Add a figure."""
        self.figures.append((name, str(value)))

    def breaks(self, invariant: str, case: str) -> None:
        """Add a broken case."""
        self.broken.setdefault(invariant, []).append(case)

    @property
    def table(self) -> str:
        """The figures and the verdict."""
        width = max((len(name) for name, _ in self.figures), default=0)
        lines = [f"{self.title} (seed {self.seed})", *(f"  {name:<{width}}  {value}" for name, value in self.figures)]
        for invariant, cases in self.broken.items():
            lines.append(f"  BROKEN {invariant}: {len(cases)}")
            lines += [f"    {case}" for case in cases[:_SHOWN]]
        return "\n".join(lines if self.broken else [*lines, "  All invariants hold."])

    def require(self) -> None:
        """Raise AssertionError, with the whole table, when anything is broken."""
        assert not self.broken, self.table
