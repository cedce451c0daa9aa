"""Renders results in the native dialect. Image bytes are kept beside the JSON, never in it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.budget import NANO_PER_USD
from app.domain.errors import VIOLATIONS_MAX, RateLimited
from app.domain.estimate import price_nano_usd
from app.domain.request import derive_seeds
from app.domain.stored_generation import build_effective
from app.media.lifting import generate_placeholders
from app.surfaces.http.amounts import render_amounts
from app.surfaces.http.problems import WouldFitWire
from app.surfaces.native.wire import (
    BudgetWire,
    CacheWire,
    EffectiveWire,
    EstimateResponse,
    EstimateWire,
    GenerateResponse,
    ImageWire,
    RateWire,
    RefusalWire,
    SearchResultsWire,
    SearchSourceWire,
    UsageWire,
    ViolationFound,
    WarningWire,
    WorstWire,
)
from app.surfaces.native.wire_models import CellWire, MigrationWire, ModelWire, RetirementWire

if TYPE_CHECKING:
    from app.domain.budget import Amounts, WindowState
    from app.domain.card import Card
    from app.domain.errors import BudgetExceeded, MaxCostExceeded
    from app.domain.estimate import Estimate
    from app.domain.generation import ImageData, Picture, PictureRecord, SearchResults, Usage
    from app.domain.migration import ModelAlias
    from app.domain.rate import RateState
    from app.domain.stored_generation import Effective, StoredGeneration
    from app.generation.order import GenerationResult, Quote


def _datetime_from_ms(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def render_result(
    result: GenerationResult, base_url: str, *, inline: bool
) -> tuple[bytes, dict[str, ImageData]]:
    """Render a result as a JSON skeleton, and the images by placeholder."""
    names = generate_placeholders()
    blobs = {}
    if inline:
        blobs = {next(names): picture.data for picture in result.pictures}
    data = iter(blobs) if inline else iter([None] * len(result.pictures))
    generation = result.generation
    effective = build_effective(result.request, result.card, generation.seeds)
    response = GenerateResponse(
        id=generation.id,
        model=generation.model,
        created_at=_datetime_from_ms(generation.created_ms),
        images=[
            _render_image(picture, effective.image_size, base_url, next(data)) for picture in result.pictures
        ],
        text=generation.text,
        finish_reason=generation.finish_reason,
        grounding=[_render_searches(each) for each in generation.searches],
        effective=_render_effective(effective),
        usage=_render_usage(result.cost, result.card),
        budgets=[render_budget(window) for window in result.windows],
        cache=CacheWire(status=result.cache_status, age_s=result.age_s, key=result.fingerprint),
        warnings=[WarningWire(code=item.code, detail=item.detail) for item in result.notices],
    )
    return _encode_response(response, inline=inline), blobs


def _encode_response(response: GenerateResponse, *, inline: bool) -> bytes:
    return response.model_dump_json(exclude=None if inline else {"images": {"__all__": {"data"}}}).encode()


def _render_image(picture: Picture | PictureRecord, size: str, base_url: str, data: str | None) -> ImageWire:
    return ImageWire(
        id=picture.id,
        uri=f"{base_url}/v1/images/{picture.id}",
        mime_type=picture.mime_type,
        width=picture.width,
        height=picture.height,
        bytes=picture.length,
        image_size=size,
        data=data,
    )


def render_stored_result(
    finished: StoredGeneration,
    card: Card,
    windows: tuple[WindowState, ...],
    base_url: str,
    pictures: tuple[Picture, ...] | None,
) -> tuple[bytes, dict[str, ImageData]]:
    """Render a stored generation with its original cost and the current budgets.

    Args:
        finished: The stored generation.
        card: The card of its model.
        windows: The caller's current budget windows.
        base_url: Base of the picture URLs.
        pictures: The pictures to send inline, or None.
    """
    generation = finished.generation
    names = generate_placeholders()
    blobs = {next(names): picture.data for picture in pictures or ()}
    data = iter(blobs) if pictures is not None else iter([None] * len(generation.pictures))
    size = finished.effective.image_size
    response = GenerateResponse(
        id=generation.id,
        model=generation.model,
        created_at=_datetime_from_ms(generation.created_ms),
        images=[_render_image(picture, size, base_url, next(data)) for picture in generation.pictures],
        text=generation.text,
        finish_reason=generation.finish_reason,
        grounding=[_render_searches(each) for each in generation.searches],
        effective=_render_effective(finished.effective),
        usage=_render_usage(generation.usage, card),
        budgets=[render_budget(window) for window in windows],
        cache=CacheWire(
            status="hit",
            age_s=max(0, int(datetime.now(UTC).timestamp()) - generation.created_ms // 1000),
            key=finished.fingerprint,
        ),
        warnings=[WarningWire(code=item.code, detail=item.detail) for item in generation.notices],
    )
    return _encode_response(response, inline=pictures is not None), blobs


def _render_searches(results: SearchResults) -> SearchResultsWire:
    return SearchResultsWire(
        queries=list(results.queries),
        search_entry_point=results.entry_point,
        sources=[
            SearchSourceWire(title=source.title, uri=source.uri, image_uri=source.image_uri or None)
            for source in results.sources
        ],
    )


def _render_effective(effective: Effective) -> EffectiveWire:
    return EffectiveWire.model_validate(asdict(effective))


def render_quote(quote: Quote) -> EstimateResponse:
    """Render the response of an estimate."""
    valid, estimate, cached = not quote.violations, quote.estimate, quote.cached_age_s is not None
    refused_by = []
    if not cached:
        refused_by = [window.budget.name for window in quote.windows if window.refuses]
    refused_by += [
        rate.limit.name
        for rate in quote.rates
        if rate.remaining < 1 and not (cached and rate.limit.kind == "concurrent")
    ]
    effective = None
    if valid and quote.card:
        effective = _render_effective(build_effective(quote.request, quote.card, derive_seeds(quote.request)))
    return EstimateResponse(
        valid=valid,
        violations=[
            ViolationFound(
                pointer=item.pointer,
                code=item.code,
                detail=item.detail,
                allowed=None if item.allowed is None else list(item.allowed),
            )
            for item in quote.violations[:VIOLATIONS_MAX]
        ],
        estimate=_render_estimate(estimate, quote.request.service_tier) if estimate else None,
        worst=_render_worst(quote.worst) if quote.worst else None,
        would_be_admitted=valid and quote.refusal is None,
        refused_by=refused_by,
        refusal=None if quote.refusal is None else _render_refusal(quote.refusal),
        cached=cached,
        cached_age_s=quote.cached_age_s,
        effective=effective,
        budgets=[render_budget(window) for window in quote.windows],
        warnings=[WarningWire(code=item.code, detail=item.detail) for item in quote.notices],
    )


def _render_refusal(error: BudgetExceeded | RateLimited | MaxCostExceeded) -> RefusalWire:
    would_fit = None
    if not isinstance(error, RateLimited):
        would_fit = error.would_fit
    return RefusalWire(
        code=error.code,
        detail=error.detail,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        would_fit=would_fit and WouldFitWire(image_size=would_fit.image_size, n=would_fit.n),
    )


def _render_estimate(estimate: Estimate, tier: str | None) -> EstimateWire:
    return EstimateWire(
        **asdict(estimate),
        service_tier=tier or "standard",
        image_tokens=estimate.image_output,
        output_tokens=estimate.output_tokens,
        total_tokens=estimate.total_tokens,
        cost_usd=estimate.usd / NANO_PER_USD,
    )


def _render_worst(worst: Amounts) -> WorstWire:
    return WorstWire(
        image_tokens=worst.image_tokens,
        total_tokens=worst.total_tokens,
        images=worst.images,
        output_tokens=worst.all_output_tokens,
        cost_usd=worst.usd / NANO_PER_USD,
    )


def _render_usage(cost: Usage, card: Card) -> UsageWire:
    return UsageWire(
        **asdict(cost),
        input_tokens=cost.input_tokens,
        output_tokens=cost.output_tokens,
        image_tokens=cost.image_output,
        service_tier=cost.tier,
        cost_usd=price_nano_usd(card, cost) / NANO_PER_USD,
    )


def render_budget(window: WindowState) -> BudgetWire:
    """Render a budget window of the caller."""
    return BudgetWire(**render_amounts(window), scope=window.budget.scope)


def render_rate(state: RateState) -> RateWire:
    """Render a request rate or a concurrency cap."""
    limit = state.limit
    return RateWire(
        name=limit.name,
        scope=limit.scope,
        kind=limit.kind,
        limit=limit.limit,
        burst=limit.burst if limit.kind == "requests" else None,
        remaining=state.remaining,
    )


def _render_retirements(card: Card) -> dict[str, RetirementWire]:
    today = datetime.now(UTC).date()
    return {
        back_end: RetirementWire(
            date=each.day.isoformat(),
            status=each.get_status(today),
            source=card.sources[each.source].title,
        )
        for back_end, each in card.lifecycle.retires.items()
    }


def render_model(card: Card, alias: ModelAlias | None) -> ModelWire:
    """Render a model card with the whole grid of aspect ratios and sizes, and the alias that moves it."""
    migration = None
    if alias is not None and alias.to != card.id:
        migration = MigrationWire(model=alias.to, share=alias.share)
    return ModelWire(
        id=card.id,
        title=card.title,
        aliases=[alias.id for alias in card.aliases],
        deprecated_aliases=[alias.id for alias in card.aliases if alias.deprecated],
        stage=card.lifecycle.stage,
        released=card.lifecycle.released.isoformat(),
        retires=_render_retirements(card),
        deprecated={end: day.isoformat() for end, day in card.lifecycle.deprecated.items()},
        replacement=card.lifecycle.replacement,
        migration=migration,
        input_modalities=list(card.input_modalities),
        input_tokens_max=card.tokens.input_max,
        output_tokens_max=card.tokens.output_max,
        input_images_max=card.images.count_max,
        input_image_bytes_max=card.images.inline_bytes_max,
        input_image_mime_types=list(card.images.mime_types),
        document_mime_types=list(card.documents.mime_types),
        document_bytes_max=card.documents.bytes_max,
        document_tokens_max=card.documents.tokens_per_file_max,
        documents_tokens_max=card.documents.tokens_total_max,
        grounding=list(card.grounding),
        aspect_ratios=list(card.aspect_ratios),
        image_sizes=list(card.image_sizes),
        grid=[
            CellWire(
                aspect_ratio=ratio,
                image_size=size,
                width=card.pixels[ratio][size][0],
                height=card.pixels[ratio][size][1],
                image_tokens=facts.tokens,
                preview=facts.preview,
            )
            for ratio in card.aspect_ratios
            for size, facts in card.image_sizes.items()
        ],
        thinking_levels=list(card.parameters.thinking_levels),
        unsupported_parameters=list(card.parameters.list_unsupported()),
        service_tiers=list(card.list_service_tiers()),
        prices_usd_per_million=card.prices_usd_per_million.model_dump(exclude={"as_of"}),
        prices_as_of=card.prices_usd_per_million.as_of.isoformat(),
    )
