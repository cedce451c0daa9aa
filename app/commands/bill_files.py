"""Reads bills: Google Cloud's billing export as CSV, and FOCUS."""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from app.domain.bills import BillLine, parse_sku, recognise_sku

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from app.domain.card import Card

    LineReader = Callable[[dict[str, str], Collection[Card], Collection[str]], BillLine]

_GOOGLE_NEEDS: Final = ("sku_description", "usage_start_time", "cost")
_FOCUS_NEEDS: Final = ("chargeperiodstart", "chargedescription", "listcost")


class UnusableBill(ValueError):
    """A file that is no bill; the message names the column or the line, and what would be accepted."""


def read_bill(path: Path, cards: Collection[Card], projects: Collection[str] = ()) -> Iterator[BillLine]:
    """The lines of a bill.

    Args:
        path: A CSV file with the columns of Google's billing export (``sku.description``, ``usage.amount``,
            ``usage_start_time``, ``cost``, …; ``_`` and blanks are read as dots), or of FOCUS.
        cards: The models whose SKUs are ours.
        projects: Ids of the projects at Google that the gateway uses; lines of others are other traffic.
            Empty for all.

    Raises:
        UnusableBill: It cannot be read, columns are missing, or a line has values of the wrong form.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = {_normalise(name): name for name in reader.fieldnames or ()}
            read = _choose_reader(path, names)
            for number, row in enumerate(reader, 2):
                values = {name: (row[written] or "").strip() for name, written in names.items()}
                try:
                    yield read(values, cards, projects)
                except (ValueError, InvalidOperation) as error:
                    raise UnusableBill(f"{path}, line {number}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableBill(f"{path} cannot be read: {error}") from error


def _choose_reader(path: Path, names: Collection[str]) -> LineReader:
    if all(name in names for name in _FOCUS_NEEDS):
        return _read_focus_line
    missing = [name for name in _GOOGLE_NEEDS if name not in names]
    if missing:
        needs = (
            f"Google's billing export has {', '.join(_GOOGLE_NEEDS)}, FOCUS ChargePeriodStart, ListCost, …"
        )
        raise UnusableBill(f"{path} has no column {', '.join(missing)}. {needs}")
    return _read_google_line


def _normalise(name: str) -> str:
    """``sku.description``, ``SKU description`` and ``sku_description`` are one column."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _read_google_line(values: dict[str, str], cards: Collection[Card], projects: Collection[str]) -> BillLine:
    description = values["sku_description"]
    sku = recognise_sku(description, cards)
    if values.get("cost_type") not in {None, "", "regular"}:
        sku, description = None, f"{values['cost_type']}: {description}"
    if projects and values.get("project_id") not in projects:
        sku, description = None, f"project {values.get('project_id') or 'unknown'}: {description}"
    # Budgets count list prices, so a negotiated discount is no difference.
    cost = _parse_decimal("cost", values.get("cost_at_list") or values["cost"])
    if values.get("currency", "USD") not in {"", "USD"}:
        rate = _parse_decimal("currency_conversion_rate", values.get("currency_conversion_rate", ""))
        if not rate:
            raise ValueError("currency_conversion_rate is needed for a cost that is not in USD")
        cost /= rate
    quantity = _parse_decimal("usage.amount", values.get("usage_amount") or "0")
    return BillLine(
        _parse_day("usage_start_time", values["usage_start_time"]), sku, description, quantity, cost
    )


def _read_focus_line(values: dict[str, str], cards: Collection[Card], projects: Collection[str]) -> BillLine:
    description = values["chargedescription"]
    sku = parse_sku(values.get("skupriceid", "")) or recognise_sku(
        f"{values.get('skumeter', '')} {description}", cards
    )
    if values.get("chargecategory") not in {None, "", "Usage"}:
        sku, description = None, f"{values['chargecategory']}: {description}"
    if projects and values.get("subaccountid") not in projects:
        sku, description = None, f"sub account {values.get('subaccountid') or 'unknown'}: {description}"
    if values.get("billingcurrency", "USD") not in {"", "USD"}:
        raise ValueError("BillingCurrency must be USD")
    quantity = _parse_decimal("ConsumedQuantity", values.get("consumedquantity") or "0")
    cost = _parse_decimal("ListCost", values["listcost"])
    day = _parse_day("ChargePeriodStart", values["chargeperiodstart"])
    return BillLine(day, sku, description, quantity, cost)


def _parse_decimal(name: str, text: str) -> Decimal:
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        raise ValueError(f"{name} must be a number, not {text!r}") from None
    if not number.is_finite():
        raise ValueError(f"{name} must be a number, not {text!r}")
    return number


def _parse_day(name: str, text: str) -> date:
    """The day of UTC of a time such as ``2026-11-27 23:00:00 UTC`` or ``2026-11-27T23:00:00Z``."""
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC").strip())
    except ValueError:
        raise ValueError(f"{name} must be a time such as 2026-11-27T23:00:00Z, not {text!r}") from None
    if moment.tzinfo is None:
        return moment.date()
    return moment.astimezone(UTC).date()
