"""Line items: rows of usage divided into what has a price of its own, as a provider's bill lists it.

A stock-keeping unit (SKU) is a model with a meter and a service tier: so many tokens of input, say, at one
price. The items of a row add up to exactly what the ledger has booked; where prices times quantities differ
from that, one more item has the difference.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from app.domain.budget import NANO_PER_USD
from app.domain.report import ESTIMATED, STANDARD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card
    from app.domain.report import Row

Meter = Literal[
    "image_output", "text_output", "input", "cached_input", "searches", "difference", "unattributed"
]
METER_NAMES: Final[dict[Meter, str]] = {
    "image_output": "Image output tokens",
    "text_output": "Text output and thinking tokens",
    "input": "Input tokens",
    "cached_input": "Cached input tokens",
    "searches": "Grounding queries",
    "difference": "Difference between booked cost and prices: rounding, earlier prices, estimates",
    "unattributed": "Charged at the estimate for an unknown outcome, or restored after a loss of data",
}
_TOKENS_PER_UNIT: Final = 1_000_000
_QUERIES_PER_UNIT: Final = 1000


class LineItem(NamedTuple):
    """What one meter counted in a row.

    Attributes:
        row: The row of usage.
        quantity: Tokens or queries; 0 for meters that only have a cost.
        unit: How many of them the price is for; 0 without a price.
        unit_price: US dollars at list price, by the tier of the row.
        list_cost: US dollars at that price.
        cost: US dollars that the ledger booked.
    """

    row: Row
    meter: Meter
    quantity: int
    unit: int
    unit_price: Decimal
    list_cost: Decimal
    cost: Decimal


def list_line_items(row: Row, card: Card | None) -> Iterator[LineItem]:
    """The items of a row; those of an unknown model, or of no model, are only a cost.

    What is provisioned is listed at the standard price, and its booked cost is spread over its meters.
    """
    booked = Decimal(row.spent.usd) / NANO_PER_USD
    nothing = Decimal(0)
    if row.model is None or card is None:
        if booked:
            meter: Meter = "unattributed" if row.model is None else "difference"
            yield LineItem(row, meter, 0, 0, nothing, booked, booked)
        return
    items = []
    for name, quantity, unit, price in _list_meters(row, card):
        if quantity:
            cost = price * quantity / unit
            items.append(LineItem(row, name, quantity, unit, price, cost, cost))
    listed = sum((item.list_cost for item in items), nothing)
    if row.tier == "provisioned" and listed:
        items = [each._replace(cost=each.list_cost * booked / listed) for each in items]
    elif booked != listed:
        items.append(LineItem(row, "difference", 0, 0, nothing, booked - listed, booked - listed))
    yield from items


def _list_meters(row: Row, card: Card) -> Iterator[tuple[Meter, int, int, Decimal]]:
    """Each meter with its quantity, the unit of its price, and the price."""
    spent, prices = row.spent, card.get_prices(get_price_tier(row))
    read = spent.total_tokens - spent.output_tokens - spent.cached_input
    tokens: tuple[tuple[Meter, int, float], ...] = (
        ("image_output", spent.image_tokens, prices.image_output),
        ("text_output", spent.text_output + spent.thinking, prices.text_output),
        ("input", read, prices.input),
        ("cached_input", spent.cached_input, prices.cached_input),
    )
    for meter, quantity, price in tokens:
        yield meter, quantity, _TOKENS_PER_UNIT, _convert_price(price)
    if card.searches is not None:
        price = card.searches.usd_per_thousand_queries
        yield "searches", spent.search_queries, _QUERIES_PER_UNIT, _convert_price(price)


def get_price_tier(row: Row) -> str:
    """The service tier whose list prices a row has: the standard one where Google reported none."""
    if row.tier is None or row.tier == ESTIMATED:
        return STANDARD
    return row.tier


def _convert_price(usd: float) -> Decimal:
    """The price as it is written on the card: the shortest decimal of the float."""
    return Decimal(repr(usd))
