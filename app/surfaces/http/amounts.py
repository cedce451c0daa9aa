"""Amounts of a budget as JSON has them: tokens and pictures whole, dollars with their cents."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainSerializer, WithJsonSchema


def _shortest(amount: float) -> float:
    """1120 and not 1120.0: a count that is written as a fraction makes its reader wonder."""
    return int(amount) if amount == int(amount) else amount


Amount = Annotated[
    float,
    PlainSerializer(_shortest, return_type=Any, when_used="json"),
    WithJsonSchema({"type": "number"}),
]
"""A number in the unit of its budget."""
