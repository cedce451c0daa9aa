"""Budget amounts in JSON: whole numbers of tokens and pictures, decimal dollars."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainSerializer, WithJsonSchema

if TYPE_CHECKING:
    from app.domain.budget import WindowState


def _shorten_number(amount: float) -> float:
    """Write 1120 rather than 1120.0."""
    if amount == int(amount):
        return int(amount)
    return amount


Amount = Annotated[
    float,
    PlainSerializer(_shorten_number, return_type=Any, when_used="json"),
    WithJsonSchema({"type": "number"}),
]
"""A number in the unit of its budget."""


def render_amounts(window: WindowState) -> dict[str, Any]:
    """Return the JSON members of a budget window, with billionths converted to dollars."""
    budget, scale = window.budget, window.budget.scale
    return {
        "name": budget.name,
        "unit": budget.unit,
        "window": budget.window,
        "mode": budget.mode,
        "limit": budget.limit / scale,
        **{
            name: getattr(window, name) / scale
            for name in ("credit", "settled", "held", "unresolved", "remaining")
        },
        "resets_at": None if window.endless else datetime.fromtimestamp(window.span.end_ms / 1000, tz=UTC),
    }
