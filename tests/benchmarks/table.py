"""A row of a benchmark: what it costs, and what that is of the first row's cost.

A cost is the least of its rounds: whatever else the machine does only ever adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Table:
    """Costs of every round by name; the first row is what the others are held against."""

    title: str
    unit: str
    rows: Mapping[str, tuple[float, ...]]

    def ratio(self, name: str) -> float:
        """A row's cost in the first row's."""
        return min(self.rows[name]) / min(next(iter(self.rows.values())))

    def __str__(self) -> str:
        lines = [f"{self.title} ({self.unit})"]
        for name, rounds in self.rows.items():
            seen = f"median {median(rounds):.2f}, most {max(rounds):.2f}"
            lines.append(f"  {name:<28} {min(rounds):>9.2f}   x{self.ratio(name):.2f}   {seen}")
        return "\n".join(lines)
