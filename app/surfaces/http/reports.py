"""Reports of usage on the wire, for tenants and for operators, and the days that they ask for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from app.domain.budget import NANO_PER_USD
from app.domain.errors import ValidationFailed, Violation

if TYPE_CHECKING:
    from app.domain.report import Spent


class UseWire(BaseModel):
    """What was used, and what the cache saved."""

    model_config = ConfigDict(frozen=True)

    requests: int = Field(description="Generations that were paid.", examples=[42])
    images: int = Field(description="Pictures made.", examples=[42])
    output_tokens: int = Field(description="Of pictures: the unit of the table.", examples=[47040])
    total_tokens: int = Field(description="Everything that Google counts.", examples=[66024])
    text_input: int = Field(description="Tokens of prompts and documents.", examples=[1008])
    image_input: int = Field(description="Tokens of reference images.", examples=[0])
    text_output: int = Field(description="Tokens of words.", examples=[18900])
    thinking: int = Field(description="Tokens of thoughts.", examples=[0])
    cost_usd: float = Field(description="At list price.", examples=[2.87952])
    hits: int = Field(
        description="Requests that the cache served, or a call that was running anyway.", examples=[7]
    )
    saved_images: int = Field(description="Pictures that were not made anew.", examples=[7])
    saved_output_tokens: int = Field(description="What they had cost.", examples=[7840])
    saved_total_tokens: int = Field(description="What they had cost.", examples=[11004])
    saved_usd: float = Field(description="What they had cost, at list price.", examples=[0.47992])


def render_spent(spent: Spent) -> UseWire:
    """Sums as they leave; dollars as dollars."""
    sums = spent._asdict()
    cost, saved = (sums.pop(name) / NANO_PER_USD for name in ("usd", "saved_usd"))
    return UseWire(**sums, cost_usd=cost, saved_usd=saved)


def resolve_days(since: date | None, until: date | None, reach: int) -> tuple[date, date]:
    """The first and the last day of a report: by default this month of UTC, up to today.

    Raises:
        ValidationFailed: The days are in another order, or are more than are kept.
    """
    last = until or datetime.now(UTC).date()
    first = since or last.replace(day=1)
    if first > last:
        sentence = f"A report begins before it ends: on {last} at the latest."
        raise ValidationFailed((Violation("/since", "out_of_order", sentence),))
    if (last - first).days >= reach:
        sentence = f"A report spans at most {reach} days, which are kept."
        raise ValidationFailed((Violation("/since", "too_many_days", sentence),))
    return first, last
