"""A bad day in numbers: goodput and the ideal, retries and their budget, the ledger and deliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING

from tests.badday.phases import DAY, HOUR_MIN, phase_at

if TYPE_CHECKING:
    from tests.badday.day import Asked, Seen
    from tests.badday.phases import Phase

RETRY_RATIO = 0.1
_COLUMNS = ("phase", "minutes", "asked", "served", "ideal", "goodput", "calls", "retries", "failovers",
            "shed", "p50 s", "p95 s", "answers")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One phase.

    Attributes:
        ideal: How many of the requests a perfect gateway would have served.
        changes: The gateway's counters in the phase: calls, retries, failovers, shed.
    """

    phase: Phase
    asked: tuple[Asked, ...]
    ideal: int
    changes: Counter[str]

    @property
    def served(self) -> tuple[Asked, ...]:
        """Requests that were answered with a picture."""
        return tuple(each for each in self.asked if each.outcome == "served")

    @property
    def seconds(self) -> tuple[float, float] | None:
        """Median and 95th percentile of the time for a picture, in seconds of the run."""
        took = [each.took_s for each in self.served]
        if len(took) < 2:
            return None
        cuts = quantiles(took, n=20, method="inclusive")
        return cuts[9], cuts[18]


class Report:
    """The results of a day, and the promises that it broke."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.asked = tuple(each for each in seen.asked if each.came >= 0)
        self.rows = tuple(self._row(phase) for phase in DAY)

    def _row(self, phase: Phase) -> Row:
        asked = tuple(each for each in self.asked if phase_at(each.came) is phase)
        ideal = len(asked) if phase.serves else 0
        before, after = self.counted_at(phase.begin), self.counted_at(phase.end)
        names = ("calls", "retries", "failovers", "shed")
        return Row(phase, asked, ideal, Counter({name: int(after[name] - before[name]) for name in names}))

    def counted_at(self, minute: float) -> Counter[str]:
        """The gateway's counters as they were last read before a minute; after the hour, the last ones."""
        read = [counters for at, counters in self.seen.series if at <= minute or minute >= HOUR_MIN]
        return Counter({name: int(value) for name, value in read[-1].items()}) if read else Counter()

    def called_in(self, minute: int) -> int:
        """Calls of the back ends that ended in a minute."""
        return self.counted_at(minute + 1)["calls"] - self.counted_at(minute)["calls"]

    @property
    def total(self) -> Counter[str]:
        """The gateway's counters at the end."""
        return self.counted_at(HOUR_MIN)

    @property
    def retries_max(self) -> int:
        """The retries that the budget allows for this number of requests (docs/reliability.md R47)."""
        return int(self.seen.retry_reserve + RETRY_RATIO * self.total["led"])

    @property
    def goodput(self) -> float:
        """The share of requests that were served, over the phases in which that was possible."""
        possible = [row for row in self.rows if row.ideal]
        return sum(len(row.served) for row in possible) / max(1, sum(row.ideal for row in possible))

    @property
    def delivered(self) -> int:
        """Pictures that were delivered to callers."""
        return sum(each.outcome == "served" for each in self.seen.asked)

    @property
    def unknown(self) -> int:
        """Pictures that may have been billed without being delivered; they are booked."""
        return sum(each.images for each in self.seen.asked if each.outcome != "served")

    @property
    def faults(self) -> tuple[str, ...]:
        """Every promise that was broken; empty on a good day."""
        books, asked = self.seen.books, self.seen.asked
        images, tokens = sum(each.images for each in asked), sum(each.tokens for each in asked)
        checks = {
            f"booked pictures are {images}": books["images"] == images,
            f"booked tokens are {tokens}": books["image_tokens"] == tokens,
            "no hold is left open": books["held"] == 0,
            "the ledger balances": self.seen.verified.startswith("The ledger balances"),
            "every picture was billed once": self.delivered
            <= self.seen.billed
            <= self.delivered + self.unknown,
            f"at most {self.retries_max} retries": self.total["retries"] <= self.retries_max,
            "every answer is one of the contract": all(each.outcome != "internal" for each in asked),
        }
        return tuple(name for name, kept in checks.items() if not kept)

    def __str__(self) -> str:
        rows = [_COLUMNS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [
            "  ".join(
                cell.ljust(width) if number in {0, len(widths) - 1} else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        seen = self.seen
        return "\n".join(
            [
                f"A bad day: an hour in {seen.seconds:.0f} s, two back ends, seed {seen.seed}",
                *(f"  {line}" for line in aligned),
                f"  goodput   {self.goodput:.1%} of what could be served",
                f"  retries   {self.total['retries']} of {self.retries_max} that the budget allows",
                f"  pictures  {self.delivered} delivered, {self.unknown} of unknown outcome",
                f"            {seen.books['images']:.0f} booked, {seen.billed} drawn by the back ends",
                f"  ledger    {seen.verified}",
                *(f"  BROKEN    {fault}" for fault in self.faults),
                "FAILED" if self.faults else "PASSED",
            ]
        )


def _cells(row: Row) -> tuple[str, ...]:
    phase, seconds = row.phase, row.seconds
    others = Counter(each.outcome for each in row.asked if each.outcome != "served")
    return (
        phase.name,
        f"{phase.begin:.0f}-{phase.end:.0f}",
        str(len(row.asked)),
        str(len(row.served)),
        str(row.ideal),
        f"{len(row.served) / row.ideal:.0%}" if row.ideal else "-",
        *(str(row.changes[name]) for name in ("calls", "retries", "failovers", "shed")),
        *((f"{value:.2f}" for value in seconds) if seconds else ("-", "-")),
        ", ".join(f"{name} {count}" for name, count in others.most_common()),
    )
