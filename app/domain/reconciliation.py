"""Compares a provider's bill with what the ledger booked, by day and SKU, and explains the differences.

A difference is what the bill has above the ledger. It is explained, in this order, by

- ``rounding``: the last digit of the bill's lines, and of what the ledger books for a request;
- ``unknown_outcomes``: what the gateway booked by its own figures because Google reported nothing; the bill
  may have any part of it;
- ``free_searches``: the queries that Google gives away each month;
- ``midnight``: calls that the ledger counts on the day when they began, and the bill on the day beside it.

Whatever is left is unexplained.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, get_args

from app.domain.bills import SEARCHES, Sku, build_sku
from app.domain.line_items import get_price_tier
from app.domain.report import ESTIMATED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from app.domain.bills import BillLine
    from app.domain.line_items import LineItem

Reason = Literal["rounding", "unknown_outcomes", "free_searches", "midnight"]
REASONS: tuple[Reason, ...] = get_args(Reason)
FREE_QUERIES = 5000
"""Queries of searches a month that Google does not bill (docs/model.md#prices)."""
BILL_DIGIT = Decimal("0.000001")
BOOKED_DIGIT = Decimal("0.000000001")
_UNATTRIBUTED = Sku("", "unattributed", "")


@dataclass(slots=True)
class Comparison:
    """A day and SKU. Costs are US dollars, quantities tokens or queries.

    Attributes:
        estimated: The part of ``booked`` that Google did not report.
        reasons: The explained parts of the difference, signed; they add up to it with ``unexplained``.
    """

    day: date
    sku: Sku
    booked_quantity: int = 0
    booked: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)
    invoiced_quantity: Decimal = Decimal(0)
    invoiced: Decimal = Decimal(0)
    lines: int = 0
    requests: int = 0
    reasons: dict[Reason, Decimal] = field(default_factory=dict)

    @property
    def difference(self) -> Decimal:
        """What the bill has above the ledger."""
        return self.invoiced - self.booked

    @property
    def unexplained(self) -> Decimal:
        """What no reason explains."""
        return self.difference - sum(self.reasons.values(), Decimal(0))

    def explain(self, reason: Reason, amount: Decimal) -> None:
        """Give a part of the difference a reason."""
        if amount:
            self.reasons[reason] = self.reasons.get(reason, Decimal(0)) + amount


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The comparison of a bill. ``others`` are costs of what the gateway does not buy, by description."""

    comparisons: tuple[Comparison, ...]
    others: dict[str, Decimal]

    @property
    def invoiced(self) -> Decimal:
        """What the bill has for the gateway's SKUs."""
        return sum((each.invoiced for each in self.comparisons), Decimal(0))

    @property
    def unexplained(self) -> Decimal:
        """The sum of all unexplained differences, whatever their signs."""
        return sum((abs(each.unexplained) for each in self.comparisons), Decimal(0))

    def is_within(self, percent: Decimal) -> bool:
        """Whether no more than this part of the bill is unexplained."""
        return self.unexplained * 100 <= self.invoiced * percent


def reconcile(
    bill: Iterable[BillLine], items: Iterable[LineItem], free_queries: int = FREE_QUERIES
) -> Reconciliation:
    """Compare a bill with the ledger's line items of the same days, whole deployments with each other."""
    by_sku: dict[tuple[date, Sku], Comparison] = {}
    others: dict[str, Decimal] = defaultdict(Decimal)
    for line in bill:
        if line.sku is None:
            others[line.description] += line.cost
            continue
        compared = by_sku.setdefault((line.day, line.sku), Comparison(line.day, line.sku))
        compared.invoiced += line.cost
        compared.invoiced_quantity += line.quantity
        compared.lines += 1
    price = Decimal(0)
    for item in items:
        _add_item(by_sku, item)
        if item.meter == "searches":
            price = item.unit_price / item.unit
    comparisons = tuple(by_sku[key] for key in sorted(by_sku))
    _explain_rounding(comparisons)
    _explain_unknown_outcomes(comparisons)
    _explain_free_searches(comparisons, price, free_queries)
    _explain_midnight(by_sku)
    return Reconciliation(comparisons, dict(others))


def _add_item(by_sku: dict[tuple[date, Sku], Comparison], item: LineItem) -> None:
    row = item.row
    estimated = row.tier == ESTIMATED or item.meter == "unattributed"
    sku = _UNATTRIBUTED
    if item.meter == "difference" and estimated:
        pass  # estimates are priced at the dearest tier, so this belongs to no meter
    elif item.meter != "unattributed":
        sku = build_sku(row.model or "", item.meter, get_price_tier(row))
    compared = by_sku.setdefault((row.day, sku), Comparison(row.day, sku))
    compared.booked_quantity += item.quantity
    compared.booked += item.cost
    compared.requests += max(row.spent.requests, row.spent.images)
    if estimated:
        compared.estimated += item.cost


def _explain_rounding(comparisons: Iterable[Comparison]) -> None:
    for each in comparisons:
        known = each.invoiced - each.booked + each.estimated
        least = each.lines * BILL_DIGIT
        if each.sku.meter == "difference":
            least = each.requests * BOOKED_DIGIT
        if abs(known) <= least:
            each.explain("rounding", known)


def _explain_unknown_outcomes(comparisons: Iterable[Comparison]) -> None:
    """What was estimated is taken as invoiced wherever the bill has more than Google reported."""
    spare: dict[date, Decimal] = defaultdict(Decimal)
    for each in comparisons:
        surplus = max(Decimal(0), each.unexplained + each.estimated)
        taken = min(surplus, each.estimated)
        each.explain("unknown_outcomes", taken - each.estimated)
        spare[each.day] += each.estimated - taken
    for each in comparisons:
        taken = min(max(Decimal(0), each.unexplained), spare[each.day])
        each.explain("unknown_outcomes", taken)
        spare[each.day] -= taken


def _explain_free_searches(comparisons: Iterable[Comparison], price: Decimal, free_queries: int) -> None:
    left: dict[date, Decimal] = defaultdict(lambda: free_queries * price)
    for each in comparisons:
        if each.sku == SEARCHES and each.unexplained < 0:
            month = each.day.replace(day=1)
            free = min(-each.unexplained, left[month])
            left[month] -= free
            each.explain("free_searches", -free)


def _explain_midnight(by_sku: dict[tuple[date, Sku], Comparison]) -> None:
    for day, sku in sorted(by_sku):
        this, following = by_sku[day, sku], by_sku.get((day + timedelta(days=1), sku))
        if following is None or this.unexplained * following.unexplained >= 0:
            continue
        moved = min(abs(this.unexplained), abs(following.unexplained)).copy_sign(this.unexplained)
        this.explain("midnight", moved)
        following.explain("midnight", -moved)
