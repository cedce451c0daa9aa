"""Budgets: how much of a unit may be used in a calendar window.

The store does the ledger's arithmetic; this defines its units, the edges of windows and the amounts. Amounts
are whole numbers below 2**53, because the scripts count in doubles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

Unit = Literal["image_tokens", "total_tokens", "images", "usd", "all_output_tokens"]
WindowName = Literal["minute", "hour", "day", "week", "month", "lifetime"]
Scope = Literal["tenant", "project", "key", "user"]
Mode = Literal["enforce", "shadow"]

WINDOWS: tuple[WindowName, ...] = ("minute", "hour", "day", "week", "month", "lifetime")

NANO_PER_USD = 1_000_000_000
AMOUNT_MAX = 2**53 - 1
LIFETIME_MS = 253_402_300_799_000
"""The end of the year 9999, which is the last moment that the calendar knows: a lifetime never ends."""


class Amounts(NamedTuple):
    """What a request uses, in every unit at once.

    ``image_tokens`` counts those of the card's table, ``all_output_tokens`` pictures, words and thoughts,
    ``total_tokens`` input as well; ``usd`` is in billionths of a dollar. The order is the store's: UNITS.
    """

    image_tokens: int = 0
    total_tokens: int = 0
    images: int = 0
    usd: int = 0
    all_output_tokens: int = 0


NOTHING = Amounts()

UNITS: tuple[Unit, ...] = Amounts._fields  # type: ignore[assignment]

EARLIER_UNITS: dict[str, Unit] = {"output_tokens": "image_tokens"}
"""Words of earlier versions. Stored tenants and journals may hold them; counters are still named by them."""

_COUNTER_WORDS = {unit: word for word, unit in EARLIER_UNITS.items()}


@dataclass(frozen=True, slots=True)
class Override:
    """Another limit until ``until_ms``, Unix milliseconds by the store's clock."""

    limit: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one unit in one window. ``limit`` is in the unit's own store amount (USD in billionths).

    A ``lifetime`` budget is prepaid: it never resets, and credit in the store adds to it.
    """

    unit: Unit
    window: WindowName
    limit: int
    scope: Scope = "tenant"
    mode: Mode = "enforce"
    override: Override | None = None

    @property
    def scale(self) -> int:
        """How many of the store's units make one of the reader's: billionths in a dollar, else 1."""
        return NANO_PER_USD if self.unit == "usd" else 1

    @property
    def name(self) -> str:
        """The policy's name in RateLimit headers and refusals, such as ``tenant-day-image_tokens``."""
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
        zone: The time zone of the window's midnights.
    """

    budget: Budget
    field: str
    spans: tuple[Span, Span, Span]
    zone: ZoneInfo

    def at(self, now_ms: int) -> BudgetWindow:
        """The same window around another moment, for a store whose clock differs from the gateway's."""
        return replace(self, spans=compute_spans(self.budget.window, self.zone, now_ms))


@dataclass(frozen=True, slots=True)
class WindowState:
    """A budget window as the store sees it at one moment.

    Attributes:
        budget: The budget with the limit in force, override and credit included.
        settled: The amount booked.
        held: The amount reserved by open holds.
        span: The window instance that the store chose.
        now_ms: Store time, Unix milliseconds.
        needed: The amount that the request needs in this unit.
        credit: The part of the limit that is credit.
        field: The counter's name in the store, which says whose window it is.
        usual_limit: The limit without an operator's override, credit included.
        unresolved: The amount set aside beyond what is settled, for calls of unknown outcome.
    """

    budget: Budget
    settled: int
    held: int
    span: Span
    now_ms: int
    needed: int = 0
    credit: int = 0
    field: str = ""
    usual_limit: int = 0
    unresolved: int = 0

    @property
    def remaining(self) -> int:
        """The amount left, never below zero."""
        return max(0, self.budget.limit - self.settled - self.unresolved - self.held)

    @property
    def debt(self) -> int:
        """The amount that was used beyond the limit."""
        return max(0, self.settled + self.unresolved - self.budget.limit)

    @property
    def endless(self) -> bool:
        """Whether the window never rolls over, so that waiting cannot help."""
        return self.budget.window == "lifetime"

    @property
    def resets_in_s(self) -> int:
        """Whole seconds until the window rolls over, rounded up."""
        return max(0, -(-(self.span.end_ms - self.now_ms) // 1000))

    @property
    def refuses(self) -> bool:
        """Whether this window alone would refuse the request."""
        return self.budget.mode == "enforce" and self.needed > self.remaining

    @property
    def never_fits(self) -> bool:
        """Whether the request needs more than the window ever holds, so that waiting does not help."""
        most = max(self.budget.limit, self.usual_limit)
        if self.endless:
            most -= self.settled + self.unresolved  # what is booked in a lifetime never comes back
        return self.refuses and self.needed > most

    @property
    def waits_for_holds(self) -> bool:
        """Whether the request would fit once the running ones have ended."""
        return self.refuses and self.needed <= self.budget.limit - self.settled - self.unresolved


_Days = Literal["day", "week", "month"]
_STEP_MS = {"minute": 60_000, "hour": 3_600_000}


def _compute_index(window: _Days, day: date) -> int:
    """Counts days, weeks from Monday on, or months, from the year 1."""
    if window == "month":
        return day.year * 12 + day.month - 1
    return day.toordinal() if window == "day" else (day.toordinal() - 1) // 7


def _compute_first_day(window: _Days, index: int) -> date:
    if window == "month":
        return date(index // 12, index % 12 + 1, 1)
    return date.fromordinal(index if window == "day" else index * 7 + 1)


@lru_cache(maxsize=16_384)
def _find_begin_ms(window: _Days, index: int, zone: ZoneInfo) -> int:
    """The first moment at which the zone's calendar shows the window's first day or a later one.

    That is midnight, except where the clocks are put forward over it: then it is the moment of the change,
    which lies between midnight by the new offset and midnight by the old one. Cached, because every request
    needs the same few. ``index`` is that of ``_compute_index``.
    """
    day = _compute_first_day(window, index)
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    by_old = int(midnight.timestamp())
    if datetime.fromtimestamp(by_old, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return by_old * 1000
    before, first = int(midnight.replace(fold=1).timestamp()) - 1, by_old
    while first - before > 1:
        middle = (before + first) // 2
        if datetime.fromtimestamp(middle, zone).date() >= day:
            first = middle
        else:
            before = middle
    return first * 1000


def compute_spans(window: WindowName, zone: ZoneInfo, now_ms: int) -> tuple[Span, Span, Span]:
    """The previous, current and next calendar window around a moment, in the tenant's zone.

    A day runs from local midnight to local midnight and so has 23, 24 or 25 hours; a week begins on Monday.
    Where midnight does not exist the day begins at the first moment that does; where it comes twice, at the
    first; a day that a zone leaves out altogether is no window. Hours and minutes are counted from the day's
    begin. So windows never overlap and leave no gap. A lifetime is one window for ever.
    """
    if window == "lifetime":
        lifetime = Span(0, LIFETIME_MS)
        return lifetime, lifetime, lifetime
    if window == "minute" or window == "hour":  # noqa: PLR1714 - so that the type checker sees which are left
        current = _find_part_of_day(zone, now_ms, _STEP_MS[window])
        before = _find_part_of_day(zone, current.start_ms - 1, _STEP_MS[window])
        return before, current, _find_part_of_day(zone, current.end_ms, _STEP_MS[window])
    return _compute_day_spans(window, zone, now_ms)


def _find_part_of_day(zone: ZoneInfo, at_ms: int, step_ms: int) -> Span:
    """The hour or minute of the day that a moment lies in; the last one of an odd day is shorter."""
    _, day, _ = _compute_day_spans("day", zone, at_ms)
    start = at_ms - (at_ms - day.start_ms) % step_ms
    return Span(start, min(start + step_ms, day.end_ms))


def _compute_day_spans(window: _Days, zone: ZoneInfo, now_ms: int) -> tuple[Span, Span, Span]:
    index = _compute_index(window, datetime.fromtimestamp(now_ms // 1000, zone).date())

    def begin(index: int) -> int:
        return _find_begin_ms(window, index, zone)

    # Clocks that are set back over midnight show yesterday's date again after today has begun.
    while begin(index + 1) <= now_ms:
        index += 1
    start, end = begin(index), begin(index + 1)
    first, last = index - 1, index + 2
    while begin(first) == start:
        first -= 1
    while begin(last) == end:
        last += 1
    return Span(begin(first), start), Span(start, end), Span(end, begin(last))


def build_window(budget: Budget, owner: str, zone: ZoneInfo, now_ms: int) -> BudgetWindow:
    """A budget's window around a moment. ``owner`` is ``t``, ``p:<project>``, ``k:<key>`` or ``u:<user>``.

    A counter's name never changes, so that replicas of two versions count in the same one.
    """
    field = f"{owner}|{_COUNTER_WORDS.get(budget.unit, budget.unit)}|{budget.window}"
    return BudgetWindow(budget, field, compute_spans(budget.window, zone, now_ms), zone)
