"""Usage reports for tenants and operators: their JSON and the days that they cover."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from app.domain.budget import NANO_PER_USD
from app.domain.errors import ValidationFailed, Violation

if TYPE_CHECKING:
    from app.domain.report import Spent


class UseWire(BaseModel):
    """Usage, and what the cache saved."""

    model_config = ConfigDict(frozen=True)

    requests: int = Field(description="Number of generations that were paid for.", examples=[42])
    images: int = Field(description="Number of pictures generated.", examples=[42])
    image_tokens: int = Field(description="Tokens of pictures, by the model card.", examples=[47040])
    output_tokens: int = Field(
        description="All output: image_tokens, text_output, thinking.", examples=[65940]
    )
    total_tokens: int = Field(description="All tokens that Google counts.", examples=[66948])
    text_input: int = Field(description="Tokens of prompts and documents.", examples=[1008])
    image_input: int = Field(description="Tokens of reference images.", examples=[0])
    text_output: int = Field(description="Tokens of text output.", examples=[18900])
    thinking: int = Field(description="Tokens of thinking.", examples=[0])
    cached_input: int = Field(
        description="Part of the input that came from Google's context cache.", examples=[0]
    )
    search_queries: int = Field(description="Queries of searches.", examples=[0])
    cost_usd: float = Field(description="Cost in US dollars at list price.", examples=[2.87952])
    hits: int = Field(
        description="Requests served from the cache or from a call already in flight.", examples=[7]
    )
    saved_images: int = Field(description="Pictures that the cache saved.", examples=[7])
    saved_image_tokens: int = Field(description="Image tokens that the cache saved.", examples=[7840])
    saved_total_tokens: int = Field(description="Tokens that the cache saved.", examples=[11004])
    saved_usd: float = Field(
        description="US dollars that the cache saved, at list price.", examples=[0.47992]
    )


def render_spent(spent: Spent) -> UseWire:
    """Render the sums of a report, with billionths as dollars."""
    sums = spent._asdict()
    cost, saved = (sums.pop(name) / NANO_PER_USD for name in ("usd", "saved_usd"))
    return UseWire(**sums, output_tokens=spent.output_tokens, cost_usd=cost, saved_usd=saved)


def resolve_days(since: date | None, until: date | None, days_max: int) -> tuple[date, date]:
    """Return the first and last day of a report; the default is this month (UTC) up to today.

    Raises:
        ValidationFailed: The days are out of order, or the span exceeds ``days_max``.
    """
    last = until or datetime.now(UTC).date()
    first = since or last.replace(day=1)
    if first > last:
        sentence = f"since must not be later than {last}, the last day of the report."
        raise ValidationFailed((Violation("/since", "out_of_order", sentence),))
    if (last - first).days >= days_max:
        sentence = f"A report covers at most {days_max} days."
        raise ValidationFailed((Violation("/since", "too_many_days", sentence),))
    return first, last
