"""Wrappers that implement a port, delegate to the real part, and count what happened.

Business code imports none of this; ``wiring`` puts the wrappers around the real parts. A wrapper changes no
argument, result or error, and a failure to count fails no request.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from app.domain.attempt import Rejoined
from app.domain.bound import is_above
from app.domain.budget import NOTHING, Amounts
from app.domain.errors import AnswerCut, ContentBlocked, GatewayError, UpstreamError
from app.domain.estimate import count_search_queries, resolve_size_and_level
from app.domain.mismatches import find_mismatches
from app.generation.ports import Absent, Hit, Lead, Refused
from app.resilience.best_effort import best_effort
from app.resilience.spans import open_span
from app.resilience.wide_event import add_to, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from app.cards import Catalogue
    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import BudgetWindow, WindowState
    from app.domain.generation import ModelAnswer, Picture, PictureRecord
    from app.domain.rate import RateLimit, RateState
    from app.domain.request import GenerationRequest
    from app.domain.stored_generation import StoredGeneration
    from app.domain.tenancy import Caller, Identity, Tenant
    from app.generation.ports import (
        Admission,
        AdmissionRequest,
        Call,
        Directory,
        ImageModel,
        Ledger,
        Results,
        Settled,
        Settlement,
    )
    from app.observability.metrics import BoundEnding, Metrics
    from app.resilience.spans import Attributes, Span

OK = "ok"
_STORE = {"db.system.name": "redis"}
_PROVIDERS = {"vertex": "gcp.vertex_ai", "gemini": "gcp.gemini"}
CANCELLED = "cancelled"

# How many open holds' amounts are remembered. One that never ends in this process (the store crashed in
# between) is forgotten after this many newer ones.
_HOLDS_MAX = 100_000


def name_outcome(error: BaseException) -> str:
    """The outcome label of an error: its code, ``cancelled`` or ``internal``."""
    if isinstance(error, GatewayError):
        return error.code
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    return GatewayError.code


@contextmanager
def _time_call(record: Callable[[str, float], None]) -> Iterator[None]:
    """Call ``record`` with the outcome and the duration of the block in seconds, however it ends."""
    began = time.perf_counter()
    outcome = OK
    try:
        yield
    except BaseException as error:  # counted and raised again, cancellation included
        outcome = name_outcome(error)
        raise
    finally:
        with _suppress_errors():
            record(outcome, time.perf_counter() - began)


def _suppress_errors() -> AbstractContextManager[None]:
    return best_effort("metrics")


@contextmanager
def _track_in_flight(metrics: Metrics, stage: str) -> Iterator[None]:
    with _suppress_errors():
        metrics.track_in_flight(stage, 1)
    try:
        yield
    finally:
        with _suppress_errors():
            metrics.track_in_flight(stage, -1)


class ObservedLedger:
    """A Ledger that counts decisions, amounts, cache hits and what budget windows have left."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._held: dict[str, Amounts] = {}

    @contextmanager
    def _time_command(self, name: str) -> Iterator[None]:
        count = partial(self._metrics.count_store_command, name)
        with open_span(f"store {name}", "client", {**_STORE, "db.operation.name": name}), _time_call(count):
            yield

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Count the decision, the reservation, and what the cache did."""
        with self._time_command("admit"):
            admission = await self._ledger.admit(request)
        if request.may_lead:
            with _suppress_errors():
                self._count_admission(request, admission)
        return admission

    def _count_admission(self, request: AdmissionRequest, admission: Admission) -> None:
        metrics = self._metrics
        metrics.count_admission(type(admission).__name__.lower())
        match admission:
            case Hit() | Rejoined():
                metrics.count_cache_status("hit" if request.following is None else "coalesced")
            case Lead():
                metrics.count_cache_status("bypass" if request.cache.mode == "bypass" else "miss")
                self._remember(admission.hold_id, admission.bound.worst)
                metrics.count_budget_units("reserved", admission.bound.worst)
                self._count_refusals(request.tenant_id, admission.windows, admission.bound.worst)
            case Refused():
                self._count_refusals(request.tenant_id, admission.windows)
            case Absent():
                metrics.count_cache_status("miss")
            case _:
                pass  # a follower's cache status is known only after it has waited

    def _count_refusals(
        self, tenant_id: str, windows: tuple[WindowState, ...], held: Amounts | None = None
    ) -> None:
        for window in windows:
            # Of an admitted request, ``held`` has the most that it can cost.
            taken = window.settled + window.unresolved + window.held + window.needed
            if held is not None:
                taken -= getattr(held, window.budget.unit)
            if window.needed > 0 and taken > window.budget.limit:
                self._metrics.count_budget_refusal(tenant_id, window)

    def _remember(self, hold_id: str, amounts: Amounts) -> None:
        self._held[hold_id] = amounts
        if len(self._held) > _HOLDS_MAX:
            del self._held[next(iter(self._held))]

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        """Count the command; a peek decides nothing."""
        with self._time_command("peek"):
            return await self._ledger.peek(request)

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        """Count the command."""
        with self._time_command("dispatch"):
            return await self._ledger.dispatch(tenant_id, hold_id, fingerprint)

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        """Count how the hold ended, and how much of the reservation was used, released or exceeded."""
        with self._time_command("settle"):
            settled = await self._ledger.settle(settlement, windows)
        with _suppress_errors():
            self._count_settlement(settlement, settled)
        return settled

    def _count_settlement(self, settlement: Settlement, settled: Settled) -> None:
        if settled.state == "deferred":
            state = "deferred"
        elif settled.repeated:
            state = "repeated"
        elif settled.late:
            state = "late"
        else:
            state = "applied"
        self._metrics.count_settlement(settlement.outcome, state)
        held = self._held.pop(settlement.hold_id, None)
        if not settled.repeated:
            self._count_amounts(settlement, held)

    def _count_amounts(self, settlement: Settlement, held: Amounts | None) -> None:
        count = self._metrics.count_budget_units
        if settlement.outcome == "charge":
            count("charged", settlement.amounts)
            if held is not None:
                count("unresolved", _subtract(held, settlement.amounts))
            return
        used = NOTHING
        if settlement.outcome == "settle":
            used = settlement.amounts
        count("settled", used)
        count("unresolved", settlement.unresolved)
        if held is not None:
            count("released", _subtract(_subtract(held, used), settlement.unresolved))
            count("overage", _subtract(used, held))

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        """Count the wait while it lasts. Its duration is the leader's, so it is not one of the store."""
        with (
            _track_in_flight(self._metrics, "waiting"),
            _time_call(lambda outcome, _: self._metrics.count_store_command("wait", outcome, None)),
        ):
            await self._ledger.wait(tenant_id, fingerprint, leader, timeout_s)

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        """Count the command."""
        with self._time_command("rates"):
            return await self._ledger.get_rates(tenant_id, rates)

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        """Count the command."""
        with self._time_command("note_delivery"):
            await self._ledger.note_delivery(tenant_id, attempt, delivery)

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        """Count the command."""
        with self._time_command("windows"):
            return await self._ledger.get_windows(tenant_id, windows)


def _subtract(amounts: Amounts, others: Amounts) -> Amounts:
    """The differences, none of them below zero."""
    return Amounts(*(max(0, amount - other) for amount, other in zip(amounts, others, strict=True)))


class ObservedResults:
    """Results that count operations and bytes."""

    def __init__(self, results: Results, metrics: Metrics) -> None:
        self._results = results
        self._metrics = metrics

    @contextmanager
    def _time_command(self, name: str) -> Iterator[None]:
        count = partial(self._metrics.count_store_command, name)
        with open_span(f"store {name}", "client", {**_STORE, "db.operation.name": name}), _time_call(count):
            yield

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        """Count the stored bytes."""
        with self._time_command("put_pictures"):
            stored = await self._results.put_pictures(tenant_id, pictures, ttl_s)
        if stored:
            with _suppress_errors():
                self._metrics.count_image_bytes("stored", sum(picture.length for picture in pictures))
        return stored

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        """Count the loaded bytes."""
        with self._time_command("get_picture"):
            picture = await self._results.get_picture(tenant_id, image_id)
        if picture is not None:
            with _suppress_errors():
                self._metrics.count_image_bytes("loaded", picture.length)
        return picture

    async def delete_picture(self, tenant_id: str, image_id: str) -> bool:
        """Count the command."""
        with self._time_command("delete_picture"):
            return await self._results.delete_picture(tenant_id, image_id)

    async def delete_generation(self, tenant_id: str, generation_id: str) -> bool:
        """Count the command."""
        with self._time_command("delete_generation"):
            return await self._results.delete_generation(tenant_id, generation_id)

    async def put_generation(
        self,
        tenant_id: str,
        finished: StoredGeneration,
        ttl_s: int,
        files: Sequence[PictureRecord] = (),
    ) -> bool:
        """Count the command."""
        with self._time_command("put_generation"):
            return await self._results.put_generation(tenant_id, finished, ttl_s, files)

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration | None:
        """Count the command."""
        with self._time_command("get_generation"):
            return await self._results.get_generation(tenant_id, generation_id)


class ObservedImageModel:
    """An ImageModel of one back end that counts calls, tokens by modality, images and bytes."""

    def __init__(self, model: ImageModel, back_end: str, metrics: Metrics, catalogue: Catalogue) -> None:
        self._model = model
        self._back_end = back_end
        self._catalogue = catalogue
        self._metrics = metrics

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """Count one attempt and its usage, whether it succeeded or not."""
        count = partial(self._metrics.count_upstream_call, self._back_end, request.model)
        add_to("attempts", 1)
        note(back_end=self._back_end)
        try:
            with (
                self._open_attempt(request, seed) as span,
                _track_in_flight(self._metrics, "upstream"),
                _time_call(count),
            ):
                answer = await self._model.generate(request, seed, call)
                span.set(_describe_answer(answer))
        except GatewayError as error:
            with _suppress_errors():
                self._count_failure(request, error)
            raise
        with _suppress_errors():
            self._count_answer(request, answer)
        return answer

    def _open_attempt(self, request: GenerationRequest, seed: int | None) -> AbstractContextManager[Span]:
        """Open the span of a call, as the semantic conventions for generative AI have it."""
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": _PROVIDERS.get(self._back_end, self._back_end),
            "gen_ai.request.model": request.model,
            "gen_ai.output.type": "image",
            "flashgate.image_size": request.image_size or "",
        }
        if seed is not None:
            attributes["gen_ai.request.seed"] = seed
        return open_span(f"generate_content {request.model}", "client", attributes)

    def _count_failure(self, request: GenerationRequest, error: GatewayError) -> None:
        if error.usage is not None:
            self._metrics.count_usage(request.model, error.usage)
        reason = _get_finish_reason(error)
        if reason is not None:
            self._metrics.count_finish(request.model, reason)
        card = self._catalogue.resolve(request.model)
        if card is not None and isinstance(error, AnswerCut):
            _, level = resolve_size_and_level(request, card)
            self._metrics.count_bounded_call(request.model, level, "cut")

    def _count_answer(self, request: GenerationRequest, answer: ModelAnswer) -> None:
        metrics = self._metrics
        metrics.count_finish(request.model, answer.finish_reason)
        metrics.count_usage(request.model, answer.usage)
        metrics.count_images(request.model, request.image_size or "default", len(answer.pictures))
        card = self._catalogue.resolve(request.model)
        if answer.answered_by is not None:
            metrics.count_other_model(self._back_end, request.model, answer.answered_by or "unknown")
        metrics.count_image_bytes("received", sum(picture.length for picture in answer.pictures))
        if card is None:
            return
        for notice in find_mismatches(request, card, answer.pictures):
            metrics.count_mismatch(request.model, notice.code)
        beyond = answer.usage.search_queries - count_search_queries(replace(request, n=1), card)
        if beyond > 0:
            metrics.count_searches_beyond_hold(request.model, beyond)
        bound, (_, level) = request.max_output_tokens, resolve_size_and_level(request, card)
        ending: BoundEnding = "within"
        if bound is None:
            ending = "none"
        elif is_above(bound, card, answer):
            ending = "over"
        metrics.count_bounded_call(request.model, level, ending)

    async def find_fault(self) -> str | None:
        """Why no call can be made; not counted, because probes ask all the time."""
        return await self._model.find_fault()


def _describe_answer(answer: ModelAnswer) -> Attributes:
    """The attributes of a span that an answer decides."""
    return {
        "gen_ai.response.model": answer.model_version,
        "gen_ai.response.finish_reasons": [answer.finish_reason],
        "gen_ai.usage.input_tokens": answer.usage.input_tokens,
        "gen_ai.usage.output_tokens": answer.usage.output_tokens,
        "flashgate.image_tokens": answer.usage.image_output,
    }


def _get_finish_reason(error: GatewayError) -> str | None:
    """The finish or block reason of a response without an image, or None without a response."""
    if isinstance(error, ContentBlocked):
        return error.reason
    if isinstance(error, UpstreamError) and error.upstream_status == HTTPStatus.OK:
        return error.reason or ""
    return None


class ObservedDirectory:
    """A Directory that counts presented keys, and registers tenants with the metrics."""

    def __init__(self, directory: Directory, metrics: Metrics) -> None:
        self._directory = directory
        self._metrics = metrics

    def authenticate(self, presented: str) -> Caller | None:
        """Count the key as ok or refused, and register the caller's tenant."""
        return self._count_authentication(self._directory.authenticate(presented))

    def find_by_identity(self, identities: tuple[Identity, ...]) -> Caller | None:
        """Count what was shown as ok or refused, as ``authenticate`` does."""
        return self._count_authentication(self._directory.find_by_identity(identities))

    def _count_authentication(self, caller: Caller | None) -> Caller | None:
        with _suppress_errors():
            self._metrics.count_authentication("refused" if caller is None else "ok")
            if caller is not None:
                self._metrics.register_tenant(caller.tenant.id)
        return caller

    def list_tenants(self) -> tuple[Tenant, ...]:
        """Every configured tenant."""
        return self._directory.list_tenants()
