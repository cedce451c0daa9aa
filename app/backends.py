"""Opens the back ends that the settings choose, each observed and guarded by breakers and slots."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain.errors import ConfigurationError
from app.emulator.child import EmulatorChild
from app.emulator.installed import check_installed
from app.emulator.rules import load_rules
from app.observability.observed import ObservedImageModel
from app.observability.traces import build_trace_headers
from app.resilience.diagnosis import Diagnosis
from app.upstream.back_end import DEFAULT_MEMBERSHIP, GuardConfig, GuardedBackEnd, Membership
from app.upstream.failover import FailoverImageModel
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AsyncExitStack

    from app.cards import Catalogue
    from app.generation.ports import ImageModel
    from app.observability.metrics import Metrics
    from app.settings import EmulatorConfig, Settings
    from app.upstream.credentials import Credential
    from app.upstream.google.backend import Kind

log = logging.getLogger(__name__)

CONNECTIONS_MIN = 100
"""Fewest connections to a back end, even if it has fewer slots."""


async def open_upstream(
    settings: Settings,
    stack: AsyncExitStack,
    metrics: Metrics,
    catalogue: Catalogue,
    cap: Callable[[ImageModel, str, Credential | None], ImageModel],
) -> FailoverImageModel:
    """Open the gateway's image model. The stack closes its parts.

    ``cap`` wraps the model of a back end of the given name in the caps that all replicas share, and in those
    of its credential.

    Raises:
        ConfigurationError: An order is configured for a model without a card, or a credential for a back end
            that no order names.
    """
    _check_credentials(settings)
    _announce_retirements(settings, catalogue, metrics)
    orders = {}
    for model, order in settings.back_ends_by_model.items():
        card = catalogue.resolve(model)
        if card is None:
            known = f"{model}: there is no such card; there are {', '.join(catalogue.names)}"
            raise ConfigurationError("FLASHGATE_UPSTREAM_BY_MODEL", (known,))
        orders[card.id] = order
    back_ends: dict[Kind, list[GuardedBackEnd]] = {}
    for kind in settings.all_back_ends:
        base_url = await _find_base_url(kind, settings, stack)
        back_ends[kind] = []
        for credential in _list_credentials(kind, settings):
            place = _build_with_credential(kind, base_url, settings, credential)
            opened = await _open_model(place, settings, stack, catalogue)
            observed = ObservedImageModel(opened, place.full_name, metrics, catalogue)
            back_ends[kind].append(
                GuardedBackEnd(
                    place.full_name,
                    cap(observed, place.full_name, credential),
                    membership=_build_membership(credential),
                    capabilities=opened.capabilities,
                    config=_configure_guard(kind, settings, catalogue),
                    metrics=metrics.upstream,
                )
            )
    return FailoverImageModel(
        _list_in_order(settings.back_ends, back_ends),
        orders={model: _list_in_order(order, back_ends) for model, order in orders.items()},
        config=settings.upstream_retry,
        metrics=metrics.upstream,
    )


def _check_credentials(settings: Settings) -> None:
    unused = [each for each in settings.credentials if each.back_end not in settings.all_back_ends]
    if unused:
        faults = (f"{each.name}: FLASHGATE_UPSTREAM does not name {each.back_end}" for each in unused)
        raise ConfigurationError(str(settings.credentials_file), tuple(faults))


def _list_credentials(kind: Kind, settings: Settings) -> Iterator[Credential | None]:
    """The credentials of a back end; None is that of the settings."""
    if settings.has_unnamed(kind):
        yield None
    yield from (each for each in settings.credentials if each.back_end == kind)


def _build_membership(credential: Credential | None) -> Membership:
    if credential is None:
        return DEFAULT_MEMBERSHIP
    return Membership(credential.pools, credential.weight)


def _list_in_order(
    order: Iterable[Kind], back_ends: Mapping[Kind, list[GuardedBackEnd]]
) -> list[GuardedBackEnd]:
    return [each for kind in order for each in back_ends[kind]]


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
    back_end: BackEnd, settings: Settings, stack: AsyncExitStack, catalogue: Catalogue
) -> GoogleImageModel:
    return await stack.enter_async_context(
        GoogleImageModel(
            back_end,
            catalogue,
            # Who has a slot must find a connection: waiting for one would look like the back end's failure.
            connections_max=max(CONNECTIONS_MIN, settings.upstream_slots.max * len(list(catalogue))),
            answer_bytes_max=settings.upstream_answer_bytes_max,
            headers_of=build_trace_headers,
        )
    )


async def build_back_end(kind: Kind, settings: Settings, stack: AsyncExitStack) -> BackEnd:
    """A back end with its first credential.

    An emulator without an address is started, and ended by the stack.
    """
    base_url = await _find_base_url(kind, settings, stack)
    return _build_with_credential(kind, base_url, settings, next(_list_credentials(kind, settings)))


async def _find_base_url(kind: Kind, settings: Settings, stack: AsyncExitStack) -> str | None:
    """Where the back end is, if not where Google has it; an emulator without an address is started."""
    vertex, gemini = settings.vertex, settings.gemini
    base_urls = {"vertex": vertex.base_url, "gemini": gemini.base_url, "emulator": settings.emulator.base_url}
    base_url = base_urls[kind]
    if kind == "emulator" and base_url is None:
        return await _start_emulator(settings.emulator, stack)
    return base_url


def _build_with_credential(
    kind: Kind, base_url: str | None, settings: Settings, credential: Credential | None
) -> BackEnd:
    vertex = settings.vertex
    back_end = BackEnd(
        kind=kind,
        base_url=base_url,
        api_key=_get_api_key(settings, credential),
        project=vertex.project if credential is None else credential.project,
        location=vertex.location,
        request_type=vertex.request_type,
        image_style=settings.upstream_image_style,
    )
    if credential is None:
        return back_end
    return replace(back_end, name=credential.name, key_file=credential.key_file)


def _get_api_key(settings: Settings, credential: Credential | None) -> str | None:
    if credential is not None:
        return credential.read_api_key()
    api_key = settings.gemini.api_key
    return None if api_key is None else api_key.get_secret_value()


async def _start_emulator(config: EmulatorConfig, stack: AsyncExitStack) -> str:
    check_installed()
    options = ["--pace", str(config.latency_factor)]
    if config.faults is not None:
        load_rules(config.faults)  # read here too, so that the gateway says what is wrong with it
        options += ["--faults", str(config.faults)]
    child = await stack.enter_async_context(EmulatorChild(options=options))
    return child.base_url


def _configure_guard(kind: Kind, settings: Settings, catalogue: Catalogue) -> GuardConfig:
    times, slots = settings.times, settings.upstream_slots
    shortest_s = min(times.get_work_s(card, size) for card in catalogue for size in card.image_sizes)
    limits = {
        "min": min(slots.min, slots.max),
        # A call may wait in one queue after the other, all within the lease of a hold that is not renewed.
        "queue_s": min(slots.queue_s, settings.ledger.lease_s * 2 / 3 / len(settings.all_back_ends)),
    }
    guard = GuardConfig(slots=slots.model_copy(update=limits), breaker=settings.upstream_breaker)
    spared = {
        # Where the deployment itself gives a size little time, running out of it is no caller's impatience.
        "slow_s": min(guard.slow_s, shortest_s / 2),
        # A rehearsal in somebody's prompt is no quota of everybody.
        "quota_probe_s": 0.0 if kind == "emulator" else guard.quota_probe_s,
    }
    return guard.model_copy(update=spared)
