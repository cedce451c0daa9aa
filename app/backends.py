"""Opens the back ends that the settings choose, each observed and guarded by breakers and slots."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.errors import ConfigurationError
from app.emulator.child import EmulatorChild
from app.emulator.installed import check_installed
from app.emulator.rules import load_rules
from app.observability.observed import ObservedImageModel
from app.observability.traces import build_trace_headers
from app.resilience.diagnosis import Diagnosis
from app.upstream.back_end import GuardConfig, GuardedBackEnd
from app.upstream.failover import FailoverImageModel
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from app.cards import Catalogue
    from app.generation.ports import ImageModel
    from app.observability.metrics import Metrics
    from app.settings import EmulatorConfig, Settings
    from app.upstream.google.backend import Kind

log = logging.getLogger(__name__)

CONNECTIONS_MIN = 100
"""Fewest connections to a back end, even if it has fewer slots."""


async def open_upstream(
    settings: Settings,
    stack: AsyncExitStack,
    metrics: Metrics,
    catalogue: Catalogue,
    cap: Callable[[ImageModel, str], ImageModel],
) -> FailoverImageModel:
    """Open the gateway's image model. The stack closes its parts.

    ``cap`` wraps the model of a back end of the given kind in the caps that all replicas share.

    Raises:
        ConfigurationError: An order is configured for a model without a card.
    """
    _announce_retirements(settings, catalogue, metrics)
    orders = {}
    for model, order in settings.back_ends_by_model.items():
        card = catalogue.resolve(model)
        if card is None:
            known = f"{model}: there is no such card; there are {', '.join(catalogue.names)}"
            raise ConfigurationError("FLASHGATE_UPSTREAM_BY_MODEL", (known,))
        orders[card.id] = order
    kinds = settings.all_back_ends
    back_ends = {}
    for kind in kinds:
        opened = await _open_model(kind, settings, stack, catalogue)
        back_ends[kind] = GuardedBackEnd(
            kind,
            cap(ObservedImageModel(opened, kind, metrics, catalogue), kind),
            capabilities=opened.capabilities,
            config=_configure_guard(kind, settings, len(kinds), catalogue),
            metrics=metrics.upstream,
        )
    return FailoverImageModel(
        [back_ends[kind] for kind in settings.back_ends],
        orders={model: [back_ends[kind] for kind in order] for model, order in orders.items()},
        config=settings.upstream_retry,
        metrics=metrics.upstream,
    )


def _announce_retirements(settings: Settings, catalogue: Catalogue, metrics: Metrics) -> None:
    """Log what is retired soon, and set the metric that an alert counts down."""
    today = datetime.now(UTC).date()
    for card in catalogue:
        for kind, retirement in card.list_near_retirements(settings.all_back_ends, today):
            words = card.describe_retirement(kind, retirement, today)
            diagnosis = Diagnosis("retirement", kind, words, "deploy/RUNBOOK.md says how to move to another.")
            log.warning("a model retires", extra={"diagnosis": diagnosis})
        for kind, retirement in card.lifecycle.retires.items():
            if kind in settings.all_back_ends and retirement.status == "announced":
                metrics.set_retirement(card.id, kind, retirement.day)


async def _open_model(
    kind: Kind, settings: Settings, stack: AsyncExitStack, catalogue: Catalogue
) -> GoogleImageModel:
    return await stack.enter_async_context(
        GoogleImageModel(
            await build_back_end(kind, settings, stack),
            catalogue,
            # Who has a slot must find a connection: waiting for one would look like the back end's failure.
            connections_max=max(CONNECTIONS_MIN, settings.upstream_slots.max * len(list(catalogue))),
            answer_bytes_max=settings.upstream_answer_bytes_max,
            headers_of=build_trace_headers,
        )
    )


async def build_back_end(kind: Kind, settings: Settings, stack: AsyncExitStack) -> BackEnd:
    """A back end as the settings say; an emulator without an address is started, and ended by the stack."""
    vertex, gemini = settings.vertex, settings.gemini
    base_urls = {"vertex": vertex.base_url, "gemini": gemini.base_url, "emulator": settings.emulator.base_url}
    base_url = base_urls[kind]
    if kind == "emulator" and base_url is None:
        base_url = await _start_emulator(settings.emulator, stack)
    return BackEnd(
        kind=kind,
        base_url=base_url,
        api_key=gemini.api_key.get_secret_value() if gemini.api_key else None,
        project=vertex.project,
        location=vertex.location,
        request_type=vertex.request_type,
        image_style=settings.upstream_image_style,
    )


async def _start_emulator(config: EmulatorConfig, stack: AsyncExitStack) -> str:
    check_installed()
    options = ["--pace", str(config.latency_factor)]
    if config.faults is not None:
        load_rules(config.faults)  # read here too, so that the gateway says what is wrong with it
        options += ["--faults", str(config.faults)]
    child = await stack.enter_async_context(EmulatorChild(options=options))
    return child.base_url


def _configure_guard(kind: Kind, settings: Settings, back_ends: int, catalogue: Catalogue) -> GuardConfig:
    times, slots = settings.times, settings.upstream_slots
    shortest_s = min(times.get_work_s(card, size) for card in catalogue for size in card.image_sizes)
    limits = {
        "min": min(slots.min, slots.max),
        # A call may wait in one queue after the other, all within the lease of a hold that is not renewed.
        "queue_s": min(slots.queue_s, settings.ledger.lease_s * 2 / 3 / back_ends),
    }
    guard = GuardConfig(slots=slots.model_copy(update=limits), breaker=settings.upstream_breaker)
    spared = {
        # Where the deployment itself gives a size little time, running out of it is no caller's impatience.
        "slow_s": min(guard.slow_s, shortest_s / 2),
        # A rehearsal in somebody's prompt is no quota of everybody.
        "quota_probe_s": 0.0 if kind == "emulator" else guard.quota_probe_s,
    }
    return guard.model_copy(update=spared)
