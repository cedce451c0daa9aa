"""Amounts of a budget as JSON has them: tokens and pictures whole, dollars with their cents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainSerializer, WithJsonSchema

from app.domain.budget import NANO_PER_USD

if TYPE_CHECKING:
    from app.domain.budget import WindowState


def _shorten_number(amount: float) -> float:
    """1120 and not 1120.0: a count that is written as a fraction makes its reader wonder."""
    return int(amount) if amount == int(amount) else amount


Amount = Annotated[
    float,
    PlainSerializer(_shorten_number, return_type=Any, when_used="json"),
    WithJsonSchema({"type": "number"}),
]
"""A number in the unit of its budget."""


def render_amounts(window: WindowState) -> dict[str, Any]:
    """What every answer says of a budget window, by member; dollars leave as dollars."""
    budget = window.budget
    scale = NANO_PER_USD if budget.unit == "usd" else 1
    return {
        "name": budget.name,
        "unit": budget.unit,
        "window": budget.window,
        "mode": budget.mode,
        "limit": budget.limit / scale,
        **{name: getattr(window, name) / scale for name in ("credit", "settled", "held", "remaining")},
        "resets_at": None if window.endless else datetime.fromtimestamp(window.span.end_ms / 1000, tz=UTC),
    }
