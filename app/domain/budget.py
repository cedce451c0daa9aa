"""Budgets: how much of a unit may be used in a calendar window.

The ledger's arithmetic is done in the store; here are its words, the windows' edges and the amounts.
Amounts are whole numbers below 2**53, because the store's scripts count in doubles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from app.domain.tenancy import Caller

Unit = Literal["output_tokens", "total_tokens", "images", "usd"]
WindowName = Literal["day", "month"]
Scope = Literal["tenant", "key"]
Mode = Literal["enforce", "shadow"]

NANO_PER_USD = 1_000_000_000
AMOUNT_MAX = 2**53 - 1


class Amounts(NamedTuple):
    """What a request uses, in every unit at once.

    ``output_tokens`` counts picture tokens, the unit of the card's table; ``total_tokens`` counts all
    that Google counts; ``usd`` is in billionths of a dollar. The order is the store's: UNITS.
    """

    output_tokens: int = 0
    total_tokens: int = 0
    images: int = 0
    usd: int = 0


UNITS: tuple[Unit, ...] = Amounts._fields  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one unit in one window. ``limit`` is in the unit's own store amount (USD in billionths)."""

    unit: Unit
    window: WindowName
    limit: int
    scope: Scope = "tenant"
    mode: Mode = "enforce"

    @property
    def name(self) -> str:
        """The policy's name in RateLimit headers and refusals, such as ``tenant-day-output_tokens``."""
        return f"{self.scope}-{self.window}-{self.unit}"


class Span(NamedTuple):
    """One window instance, [start, end), in Unix milliseconds."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """A budget with the window instances that the store may choose from by its own clock.

    Attributes:
        field: The counter's name in the store without the start, such as ``k:k1|usd|month``.
        spans: Previous, current and next window by the gateway's clock.
        zone: Where the window's midnights are.
    """

    budget: Budget
    field: str
    spans: tuple[Span, Span, Span]
    zone: ZoneInfo

    def at(self, now_ms: int) -> BudgetWindow:
        """The same window with the instances around another moment: the store's clock has the last word."""
        return replace(self, spans=spans(self.budget.window, self.zone, now_ms))


@dataclass(frozen=True, slots=True)
class WindowState:
    """A budget window as the store sees it at one moment.

    Attributes:
        settled: Booked.
        held: Reserved and not yet resolved.
        span: The window instance that the store chose.
        now_ms: The store's clock.
        asked: What the refused or admitted request needs in this unit.
    """

    budget: Budget
    settled: int
    held: int
    span: Span
    now_ms: int
    asked: int = 0

    @property
    def remaining(self) -> int:
        """What is left, never below zero."""
        return max(0, self.budget.limit - self.settled - self.held)

    @property
    def resets_in_s(self) -> int:
        """Whole seconds until the window rolls over, rounded up."""
        return max(0, -(-(self.span.end_ms - self.now_ms) // 1000))

    @property
    def refuses(self) -> bool:
        """Whether this window alone would refuse what was asked."""
        return self.budget.mode == "enforce" and self.asked > self.remaining


def _midnight(day: datetime, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _milliseconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def spans(window: WindowName, zone: ZoneInfo, now_ms: int) -> tuple[Span, Span, Span]:
    """The previous, current and next calendar window around a moment, in the tenant's zone.

    A day runs from local midnight to local midnight and so has 23, 24 or 25 hours; where midnight does
    not exist on a day (some zones change at 00:00) the day begins at the first moment that does.
    """
    local = datetime.fromtimestamp(now_ms / 1000, tz=zone)
    first = _midnight(local, zone)
    if window == "month":
        first = first.replace(day=1)
        edges = [_month_shift(first, by, zone) for by in (-1, 0, 1, 2)]
    else:
        noon = first.replace(hour=12)
        edges = [_midnight(noon + timedelta(days=by), zone) for by in (-1, 0, 1, 2)]
    at = [_milliseconds(edge) for edge in edges]
    return Span(at[0], at[1]), Span(at[1], at[2]), Span(at[2], at[3])


def _month_shift(first: datetime, by: int, zone: ZoneInfo) -> datetime:
    index = first.year * 12 + first.month - 1 + by
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=zone)


def windows_of(caller: Caller, now_ms: int) -> tuple[BudgetWindow, ...]:
    """Every budget window that a caller's request is counted in: the tenant's, then the key's."""
    zone = caller.tenant.time_zone
    found = [("t", budget) for budget in caller.tenant.budgets]
    found += [(f"k:{caller.key.id}", budget) for budget in caller.key.budgets]
    return tuple(
        BudgetWindow(
            budget, f"{owner}|{budget.unit}|{budget.window}", spans(budget.window, zone, now_ms), zone
        )
        for owner, budget in found
    )
