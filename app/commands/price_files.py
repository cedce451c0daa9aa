"""Reads list prices, with which ``flashgate cards check`` compares the cards."""

from __future__ import annotations

import csv
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from app.domain.card_check import PRICED_METERS, SEARCHES, ListPrice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.cards import Catalogue
    from app.domain.card import Card

COLUMNS: Final = ("model", "meter", "tier", "unit", "price")
_UNIT = re.compile(r"(\d+)([KM]?) (tokens|queries)", re.ASCII)
_FACTORS: Final = {"": 1, "K": 1000, "M": 1_000_000}


class UnusableInput(ValueError):
    """A file or an option that cannot be used; the message names the place, and what would be accepted."""


def read_prices(path: Path, catalogue: Catalogue) -> Iterator[ListPrice]:
    """The prices of a list.

    Args:
        path: A CSV file with the columns model, meter, tier, unit and price: ``examples/prices.csv``.
        catalogue: The cards; other models may be in the list, and are left out.

    Raises:
        UnusableInput: It cannot be read, a column is missing, or a line is malformed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UnusableInput(f"{path} has no column {', '.join(missing)}")
            for number, row in enumerate(reader, 2):
                card = catalogue.resolve(row["model"] or "")
                if card is not None:
                    yield _read_price(row, card, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableInput(f"{path} cannot be read: {error}") from error


def _read_price(row: dict[str, str], card: Card, place: str) -> ListPrice:
    meters = (*PRICED_METERS, SEARCHES)
    if row["meter"] not in meters:
        raise UnusableInput(f"{place}: meter must be one of {', '.join(meters)}")
    unit = _UNIT.fullmatch(row["unit"] or "")
    counted, per = "tokens", 1_000_000
    if row["meter"] == SEARCHES:
        counted, per = "queries", 1000
    if unit is None or unit[3] != counted or not int(unit[1]):
        raise UnusableInput(
            f"{place}: unit of {row['meter']} must be a number of {counted}, such as 1M {counted}"
        )
    try:
        price = Decimal(row["price"] or "")
    except InvalidOperation:
        raise UnusableInput(f"{place}: price must be a number of US dollars") from None
    usd = price * per / (int(unit[1]) * _FACTORS[unit[2]])
    return ListPrice(card.id, row["meter"], row["tier"] or "standard", usd)
