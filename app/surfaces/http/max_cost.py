"""What a request may cost at most, in a header that every dialect reads."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from app.domain.budget import AMOUNT_MAX, NANO_PER_USD
from app.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from fastapi import Request

    from app.generation.order import Order

_DOLLARS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")

MAX_COST: dict[str, Any] = {
    "name": "X-Flashgate-Max-Cost",
    "in": "header",
    "required": False,
    "description": (
        "US dollars that the request may cost at most, such as `0.25`. If it can cost more, nothing is "
        "generated and the answer is `402 max_cost_exceeded`."
    ),
    "schema": {"type": "string", "pattern": f"^{_DOLLARS.pattern}$", "examples": ["0.25"]},
}
"""The header as a parameter of the OpenAPI document."""


def convert_dollars(dollars: float | str) -> int:
    """Convert to billionths of a dollar, rounded down, so that no more is spent than what was written."""
    return min(AMOUNT_MAX, int(Decimal(str(dollars)) * NANO_PER_USD))


def attach_max_cost(order: Order, request: Request) -> Order:
    """Return the order with the header's limit, unless its own is tighter.

    Raises:
        InvalidRequest: The header is no amount of dollars, or was sent twice.
    """
    values = request.headers.getlist("x-flashgate-max-cost")
    if not values:
        return order
    if len(values) > 1 or not _DOLLARS.fullmatch(values[0]):
        raise InvalidRequest("X-Flashgate-Max-Cost is sent once, as US dollars in digits such as 0.25.")
    limits = [convert_dollars(values[0])]
    if order.max_cost_usd is not None:
        limits.append(order.max_cost_usd)
    return replace(order, max_cost_usd=min(limits))
