"""Opens the back ends that the settings choose, each observed and in a lane of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.errors import ConfigurationError
from app.domain.policy import Times
from app.emulator.child import EmulatorChild
from app.emulator.installed import check_installed
from app.emulator.rules import load_rules
from app.observability.observed import ObservedImageModel
from app.observability.traces import build_trace_headers
from app.upstream.back_end import GuardedBackEnd, LaneTerms
from app.upstream.breaker import BreakerTerms
from app.upstream.failover import FailoverImageModel
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel
from app.upstream.retries import RetryTerms
from app.upstream.slots import SlotTerms

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from app.cards import Catalogue
    from app.generation.ports import ImageModel
    from app.observability.metrics import Metrics
    from app.settings import BackEndKind, Settings


async def open_upstream(
    settings: Settings,
    stack: AsyncExitStack,
    metrics: Metrics,
    catalogue: Catalogue,
    cap: Callable[[ImageModel, str], ImageModel],
) -> FailoverImageModel:
    """The image model of the gateway; what it needs is open until the stack closes.

    ``cap`` puts the model of a back end of this kind behind the caps that all replicas share.

    Raises:
        ConfigurationError: An order is given for a model without a card.
    """
    orders = {}
    for model, order in settings.back_ends_by_model.items():
        card = catalogue.resolve(model)
        if card is None:
            known = f"{model}: there is no such card; there are {', '.join(catalogue.names)}"
            raise ConfigurationError("FLASHGATE_UPSTREAM_BY_MODEL", (known,))
        orders[card.id] = order
    kinds = dict.fromkeys((*settings.back_ends, *(kind for order in orders.values() for kind in order)))
    back_ends = {}
    for kind in kinds:
        opened = await _open_model(kind, settings, stack, catalogue)
        back_ends[kind] = GuardedBackEnd(
            kind,
            cap(ObservedImageModel(opened, kind, metrics, catalogue), kind),
            capabilities=opened.capabilities,
            terms=_lane_terms(kind, settings, len(kinds), catalogue),
            metrics=metrics.upstream,
        )
    return FailoverImageModel(
        [back_ends[kind] for kind in settings.back_ends],
        orders={model: [back_ends[kind] for kind in order] for model, order in orders.items()},
        terms=_retry_terms(settings),
        metrics=metrics.upstream,
    )


async def _open_model(
    kind: BackEndKind, settings: Settings, stack: AsyncExitStack, catalogue: Catalogue
) -> GoogleImageModel:
    return await stack.enter_async_context(
        GoogleImageModel(
            _back_end(kind, settings, await _resolve_base_url(kind, settings, stack)),
            catalogue,
            # Who has a slot must find a connection: waiting for one would look like the back end's failure.
            connections_max=max(
                settings.upstream_connections, settings.upstream_slots_max * len(list(catalogue))
            ),
            answer_bytes_max=settings.upstream_answer_bytes_max,
            headers_of=build_trace_headers,
        )
    )


async def _resolve_base_url(kind: BackEndKind, settings: Settings, stack: AsyncExitStack) -> str | None:
    """Where the back end is, if not where Google has it; an emulator without an address is started."""
    first = settings.upstream_base_url if settings.back_ends[0] == kind else None
    if kind == "vertex":
        return settings.vertex_base_url or first
    if kind == "gemini":
        return settings.gemini_base_url or first
    if first is not None:
        return first
    check_installed()
    options = ["--pace", str(settings.emulator_pace)]
    if settings.emulator_faults is not None:
        load_rules(settings.emulator_faults)  # read here too, so that the gateway says what is wrong with it
        options += ["--faults", str(settings.emulator_faults)]
    child = await stack.enter_async_context(EmulatorChild(options=options))
    return child.base_url


def _back_end(kind: BackEndKind, settings: Settings, base_url: str | None) -> BackEnd:
    return BackEnd(
        kind=kind,
        base_url=base_url,
        api_key=settings.gemini_api_key.get_secret_value() if settings.gemini_api_key else None,
        project=settings.vertex_project,
        location=settings.vertex_location,
        api_version=settings.upstream_api_version,
        request_type=settings.vertex_request_type,
        image_style=settings.upstream_image_style,
    )


def times_of(settings: Settings) -> Times:
    """How long requests may take."""
    return Times(settings.upstream_timeout_s, settings.lease_s, settings.timeout_by_size)


def _lane_terms(kind: BackEndKind, settings: Settings, back_ends: int, catalogue: Catalogue) -> LaneTerms:
    # A call may wait in one queue after the other, all within the lease of a hold that is not renewed.
    times = times_of(settings)
    shortest_s = min(times.get_work_s(card, size) for card in catalogue for size in card.image_sizes)
    waits_s = settings.lease_s * 2 / 3 / back_ends
    return LaneTerms(
        SlotTerms(
            limit_min=min(settings.upstream_slots_min, settings.upstream_slots_max),
            limit_max=settings.upstream_slots_max,
            queue_max=settings.upstream_queue,
            queue_s_max=min(settings.upstream_queue_s, waits_s),
            kept_for_critical=settings.upstream_kept_for_critical,
            kept_from_batch=settings.upstream_kept_from_batch,
        ),
        BreakerTerms(
            window_s=settings.upstream_breaker_window_s,
            calls_min=settings.upstream_breaker_calls,
            ratio=settings.upstream_breaker_ratio,
            pause_s=settings.upstream_breaker_pause_s,
        ),
        # Where the deployment itself gives a size little time, running out of it is no caller's impatience.
        min(settings.upstream_slow_s, shortest_s / 2),
        # A rehearsal in somebody's prompt is no quota of everybody.
        0.0 if kind == "emulator" else settings.upstream_quota_probe_s,
    )


def _retry_terms(settings: Settings) -> RetryTerms:
    return RetryTerms(
        attempts_max=settings.upstream_attempts,
        wait_s_max=settings.upstream_retry_wait_s,
        ratio=settings.upstream_retry_ratio,
        reserve=settings.upstream_retry_reserve,
    )
