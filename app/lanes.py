"""Opens the back ends that the settings choose, each observed and in a lane of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.emulator.child import EmulatorChild
from app.emulator.rules import load_rules
from app.observability.observed import ObservedImageModel
from app.observability.traces import outgoing_headers
from app.upstream.backend import BackEnd
from app.upstream.breaker import BreakerTerms
from app.upstream.failover import FailoverImageModel
from app.upstream.google import GoogleImageModel
from app.upstream.lane import Lane, LaneTerms
from app.upstream.retries import RetryTerms
from app.upstream.slots import SlotTerms

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from app.cards import Catalogue
    from app.observability.metrics import Metrics
    from app.ports import ImageModel
    from app.settings import Settings


async def open_upstream(
    settings: Settings,
    stack: AsyncExitStack,
    metrics: Metrics,
    catalogue: Catalogue,
    cap: Callable[[ImageModel, str], ImageModel],
) -> FailoverImageModel:
    """The image model of the gateway; what it needs is open until the stack closes.

    ``cap`` puts the model of a back end of this kind behind the caps that all replicas share.
    """
    model = await stack.enter_async_context(
        GoogleImageModel(
            _back_end(settings, await _emulator_url(settings, stack)),
            catalogue,
            connections_max=settings.upstream_connections,
            answer_bytes_max=settings.upstream_answer_bytes_max,
            headers_of=outgoing_headers,
        )
    )
    return FailoverImageModel(
        [_lane(settings, model, metrics, catalogue, cap)],
        terms=_retry_terms(settings),
        watcher=metrics.upstream,
    )


async def _emulator_url(settings: Settings, stack: AsyncExitStack) -> str | None:
    if settings.back_end != "emulator" or settings.upstream_base_url is not None:
        return settings.upstream_base_url
    options = ["--pace", str(settings.emulator_pace)]
    if settings.emulator_faults is not None:
        load_rules(settings.emulator_faults)  # read here too, so that the gateway says what is wrong with it
        options += ["--faults", str(settings.emulator_faults)]
    child = await stack.enter_async_context(EmulatorChild(options=options))
    return child.base_url


def _back_end(settings: Settings, base_url: str | None) -> BackEnd:
    return BackEnd(
        kind=settings.back_end,
        base_url=base_url,
        api_key=settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else None,
        project=settings.vertex_project,
        location=settings.vertex_location,
        api_version=settings.upstream_api_version,
    )


def _lane(
    settings: Settings,
    model: GoogleImageModel,
    metrics: Metrics,
    catalogue: Catalogue,
    cap: Callable[[ImageModel, str], ImageModel],
) -> Lane:
    """A back end, observed, capped and spared."""
    observed = ObservedImageModel(model, settings.back_end, metrics, catalogue)
    return Lane(
        settings.back_end,
        cap(observed, settings.back_end),
        capabilities=model.capabilities,
        terms=_lane_terms(settings),
        watcher=metrics.upstream,
    )


def _lane_terms(settings: Settings) -> LaneTerms:
    return LaneTerms(
        SlotTerms(
            limit_min=min(settings.upstream_slots_min, settings.upstream_slots_max),
            limit_max=settings.upstream_slots_max,
            queue_max=settings.upstream_queue,
            queue_s_max=min(settings.upstream_queue_s, settings.lease_s * 2 / 3),
            kept_for_critical=settings.upstream_kept_for_critical,
            kept_from_batch=settings.upstream_kept_from_batch,
        ),
        BreakerTerms(
            window_s=settings.upstream_breaker_window_s,
            calls_min=settings.upstream_breaker_calls,
            ratio=settings.upstream_breaker_ratio,
            pause_s=settings.upstream_breaker_pause_s,
        ),
        settings.upstream_slow_s,
    )


def _retry_terms(settings: Settings) -> RetryTerms:
    return RetryTerms(
        attempts_max=settings.upstream_attempts,
        wait_s_max=settings.upstream_retry_wait_s,
        ratio=settings.upstream_retry_ratio,
        reserve=settings.upstream_retry_reserve,
    )
