"""A result in the native dialect. The bytes of its images stand beside the JSON, never in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.budget import NANO_PER_USD
from app.domain.estimate import price_nano_usd
from app.media.lifting import placeholders
from app.surfaces.native.wire import (
    BudgetWire,
    CacheWire,
    CellWire,
    EffectiveWire,
    GenerateResponse,
    ImageWire,
    ModelWire,
    UsageWire,
    WarningWire,
)

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.card import Card
    from app.order import GenerationResult


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def answer_of(result: GenerationResult, base_url: str, *, inline: bool) -> tuple[bytes, dict[str, bytes]]:
    """The light JSON of the answer, and the images by the placeholders that stand for them in it."""
    names = placeholders()
    cargo = {next(names): picture.data for picture in result.pictures} if inline else {}
    data = iter(cargo) if inline else iter([None] * len(result.pictures))
    size = result.request.image_size or result.card.image_size_default
    generation = result.generation
    response = GenerateResponse(
        id=generation.id,
        model=generation.model,
        created_at=_moment(generation.created_ms),
        images=[
            ImageWire(
                id=picture.id,
                uri=f"{base_url}/v1/images/{picture.id}",
                mime_type=picture.mime_type,
                width=picture.width,
                height=picture.height,
                bytes=picture.length,
                image_size=size,
                data=next(data),
            )
            for picture in result.pictures
        ],
        text=generation.text,
        finish_reason=generation.finish_reason,
        effective=_effective(result),
        usage=_usage(result),
        budgets=[budget_of(window) for window in result.windows],
        cache=CacheWire(status=result.cache_status, age_s=result.age_s, key=result.fingerprint),
        warnings=[WarningWire(code=item.code, detail=item.detail) for item in result.notices],
    )
    return response.model_dump_json(
        exclude=None if inline else {"images": {"__all__": {"data"}}}
    ).encode(), cargo


def _effective(result: GenerationResult) -> EffectiveWire:
    request, parameters = result.request, result.card.parameters
    return EffectiveWire(
        model=result.card.id,
        aspect_ratio=request.aspect_ratio,
        image_size=request.image_size or result.card.image_size_default,
        n=request.n,
        response_modalities=list(request.response_modalities),
        output_mime_type=request.output_mime_type,
        output_compression_quality=request.output_compression_quality,
        temperature=parameters.temperature.default if request.temperature is None else request.temperature,
        top_p=parameters.top_p.default if request.top_p is None else request.top_p,
        seeds=list(result.generation.seeds),
        max_output_tokens=request.max_output_tokens or result.card.tokens.output_max,
        thinking_level=request.thinking_level or parameters.thinking_level_default,
        variant=request.variant,
    )


def _usage(result: GenerationResult) -> UsageWire:
    cost = result.cost
    return UsageWire(
        input_tokens=cost.input_tokens,
        output_tokens=cost.output_tokens,
        text_input=cost.text_input,
        image_input=cost.image_input,
        image_output=cost.image_output,
        text_output=cost.text_output,
        thinking=cost.thinking,
        estimated=cost.estimated,
        cost_usd=price_nano_usd(result.card, cost) / NANO_PER_USD,
    )


def budget_of(window: WindowState) -> BudgetWire:
    """A budget window; dollars leave as dollars."""
    budget = window.budget
    scale = NANO_PER_USD if budget.unit == "usd" else 1
    return BudgetWire(
        name=budget.name,
        scope=budget.scope,
        unit=budget.unit,
        window=budget.window,
        mode=budget.mode,
        limit=budget.limit / scale,
        settled=window.settled / scale,
        held=window.held / scale,
        remaining=window.remaining / scale,
        resets_at=_moment(window.span.end_ms),
    )


def model_of(card: Card) -> ModelWire:
    """A card as the catalogue shows it, with the whole grid of ratios and sizes."""
    return ModelWire(
        id=card.id,
        title=card.title,
        aliases=[alias.id for alias in card.aliases],
        stage=card.lifecycle.stage,
        released=card.lifecycle.released.isoformat(),
        retires={end: day.isoformat() for end, day in card.lifecycle.retires.items()},
        input_tokens_max=card.tokens.input_max,
        output_tokens_max=card.tokens.output_max,
        input_images_max=card.images.count_max,
        input_image_bytes_max=card.images.inline_bytes_max,
        input_image_mime_types=list(card.images.mime_types),
        document_mime_types=list(card.documents.mime_types),
        aspect_ratios=list(card.aspect_ratios),
        image_sizes=list(card.image_sizes),
        grid=[
            CellWire(
                aspect_ratio=ratio,
                image_size=size,
                width=card.pixels[ratio][size][0],
                height=card.pixels[ratio][size][1],
                output_tokens=facts.tokens,
                preview=facts.preview,
            )
            for ratio in card.aspect_ratios
            for size, facts in card.image_sizes.items()
        ],
        thinking_levels=list(card.parameters.thinking_levels),
        prices_usd_per_million=card.prices_usd_per_million.model_dump(exclude={"as_of"}),
        prices_as_of=card.prices_usd_per_million.as_of.isoformat(),
    )
