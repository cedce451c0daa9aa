"""One back end behind its breakers and slots."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from app.domain.config import Config
from app.domain.credential_state import EVERY_MODEL, CredentialState
from app.domain.errors import (
    DeadlineExceeded,
    GatewayError,
    UpstreamError,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamSpendingCap,
    UpstreamUnavailable,
)
from app.domain.tenancy import DEFAULT_POOL
from app.resilience.diagnosis import Diagnosis
from app.upstream.breaker import BreakerConfig, SizeBreaker, is_fault
from app.upstream.metrics import NullMetrics
from app.upstream.slots import SlotConfig, Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.credential_state import State
    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call, ImageModel
    from app.upstream.metrics import UpstreamMetrics

log = logging.getLogger(__name__)

_OVERLOAD_STATUSES: Final = frozenset({503, 529})
_NOT_FOUND: Final = 404
_REST_S: Final = 1.0
"""How long a credential rests after a 429 that names no time, in seconds."""


class NotSent(Exception):
    """The hold could not be marked as sent, so the call ends without trying other back ends.

    Args:
        error: The error to report to the caller.
    """

    def __init__(self, error: GatewayError) -> None:
        super().__init__(error.detail)
        self.error = error


class Membership(NamedTuple):
    """The names by which tenants reach a credential, and its weight among others of its pool."""

    pools: frozenset[str] = frozenset({DEFAULT_POOL})
    weight: int = 1


DEFAULT_MEMBERSHIP: Final = Membership()


class GuardConfig(Config):
    """How a back end is spared.

    Attributes:
        quota_probe_s: Seconds between probes while the daily quota is exhausted or a spending cap is reached.
        slow_s: A timeout before this many seconds counts as the caller's and says nothing about the back end.
    """

    slots: SlotConfig = SlotConfig()
    breaker: BreakerConfig = BreakerConfig()
    slow_s: float = 60.0
    quota_probe_s: float = 600.0


@dataclass(slots=True)
class _ExhaustedQuota:
    """An exhausted daily quota: when it ends, and when the next call may probe it, by the monotonic clock."""

    until: float
    probed_at: float


@dataclass(slots=True)
class _ReachedCap:
    """A spending cap: Google's word for it, and when the next call may probe it, by the monotonic clock."""

    error: UpstreamSpendingCap
    probed_at: float


class GuardedBackEnd:
    """A back end with a breaker for each model and size, and slots for each model.

    Args:
        name: The back end's kind and its credential's name, as metrics show it: ``vertex/images-a``.
        model: Makes single attempts.
        membership: Who reaches it, and its share of their calls.
        capabilities: Optional features that the back end offers.
        config: Limits that protect the back end.
        metrics: Shows breakers, slots and queues.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        name: str,
        model: ImageModel,
        *,
        membership: Membership = DEFAULT_MEMBERSHIP,
        capabilities: frozenset[str] = frozenset(),
        config: GuardConfig | None = None,
        metrics: UpstreamMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.kind = name.partition("/")[0]
        self.pools, self.weight = membership
        self.credit = 0
        """What it has left of its turns (``app/upstream/pools.py``)."""
        self.capabilities = capabilities
        self._model = model
        self._config = config or GuardConfig()
        self._metrics = metrics or NullMetrics()
        self._clock = clock
        self._breakers: dict[tuple[str, str], SizeBreaker] = {}
        self._slots: dict[str, Slots] = {}
        self._quotas: dict[str, _ExhaustedQuota] = {}
        self._cap: _ReachedCap | None = None
        self._refusal: str | None = None
        self._rests: dict[str, float] = {}

    async def find_fault(self) -> str | None:
        """Why the back end cannot be called, or None."""
        return await self._model.find_fault()

    @property
    def spending_cap(self) -> str | None:
        """Which spending cap of Google holds all calls back, as a sentence, or None."""
        return None if self._cap is None else self._cap.error.detail

    @property
    def refusal(self) -> str | None:
        """With which words Google refused the credential at last, or None."""
        return self._refusal

    def describe(self) -> CredentialState:
        """How it is now."""
        now = self._clock()
        rests_s = {model: end - now for model, end in sorted(self._rests.items()) if end > now}
        state: State = "resting" if rests_s else "serving"
        if self._refusal is not None:
            state = "refused"
        elif self._cap is not None:
            state = "spending_cap"
        return CredentialState(
            name=self.name,
            pools=tuple(sorted(self.pools)),
            weight=self.weight,
            state=state,
            detail=self._refusal or self.spending_cap,
            rests_s=rests_s,
            running=sum(slots.in_use for slots in self._slots.values()),
            waiting=sum(slots.waiting for slots in self._slots.values()),
        )

    def compute_rest_s(self, request: GenerationRequest) -> float:
        """Seconds for which other credentials of its pool are asked before this one; 0 for none."""
        ends = (self._rests.get(model, 0.0) for model in (EVERY_MODEL, request.model))
        return max(0.0, max(ends) - self._clock(), self._get_breaker(request).left_s)

    def count_backlog(self, model: str) -> int:
        """Calls that would have to end before one more could begin; 0 while there is a free slot."""
        slots = self._get_slots(model)
        return max(0, slots.in_use + slots.waiting + 1 - slots.limit)

    async def attempt(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """Wait for a slot and make one attempt.

        Raises:
            NotSent: The hold could not be marked as sent.
            Overloaded: No slot became free in time; nothing was sent.
            DeadlineExceeded: Also if no slot became free before the call's deadline; then ``billed`` is no.
            UpstreamUnavailable: Also while the breaker is open.
            UpstreamSpendingCap: Also while Google's cap on spending is reached; then nothing was sent.
            GatewayError: See the port.
        """
        deadline = self._clock() + call.timeout_s
        breaker = self._get_breaker(request)
        # The breaker is checked before the wait, so that no call queues for nothing, and after it, because it
        # may have opened meanwhile. Only ``admit``, right before the call, may claim the probe.
        _check_not_held_back(breaker.left_s)
        async with self._get_slots(request.model).acquire(call) as slot:
            _check_not_held_back(breaker.left_s)
            self._check_spending_cap()
            self._check_quota(request.model)
            try:
                await call.begin()
            except GatewayError as error:
                raise NotSent(error) from error
            _check_not_held_back(breaker.admit())
            began = self._clock()
            try:
                answer = await self._model.generate(
                    request, seed, replace(call, timeout_s=deadline - self._clock())
                )
            except BaseException as error:
                client_timeout = self._is_client_timeout(error, self._clock() - began)
                if client_timeout or isinstance(error, asyncio.CancelledError):
                    breaker.record(failed=None)
                else:
                    breaker.record(failed=is_fault(error))
                slot.overloaded = not client_timeout and _is_overload(error)
                self._note_rest(request, error)
                if isinstance(error, UpstreamSpendingCap):
                    self._note_spending_cap(error)
                if isinstance(error, UpstreamQuota) and error.daily:
                    self._note_exhausted_quota(request.model, error.retry_after_s or 0)
                raise
            breaker.record(failed=False)
            slot.delivered = True
            self._quotas.pop(request.model, None)
            self._forget_spending_cap()
            self._forget_refusal(request.model)
            return answer

    def _note_rest(self, request: GenerationRequest, error: BaseException) -> None:
        """Note how long the pool's other credentials are asked first."""
        model, rest_s = request.model, 0.0
        if isinstance(error, UpstreamSpendingCap):
            model, rest_s = EVERY_MODEL, self._config.quota_probe_s
        elif isinstance(error, UpstreamQuota) and error.daily:
            rest_s = self._config.quota_probe_s
        elif isinstance(error, UpstreamQuota) and error.retryable:
            rest_s = error.retry_after_s or _REST_S
        elif isinstance(error, UpstreamRejected) and error.billed == "no" and not request.names_addresses:
            # Whoever names a file may have named one that this credential cannot read.
            rest_s = self._config.quota_probe_s
            if error.upstream_status != _NOT_FOUND:
                model = EVERY_MODEL
                self._note_refusal(error)
        if rest_s:
            self._rests[model] = self._clock() + min(rest_s, self._config.quota_probe_s)

    def _note_refusal(self, error: UpstreamRejected) -> None:
        if self._refusal is None:
            remedy = "deploy/RUNBOOK.md, FlashgateCredentialRefused, says what to check."
            diagnosis = Diagnosis("credential_refused", self.name, error.detail, remedy)
            log.error("Google refuses a credential", extra={"diagnosis": diagnosis})
            self._metrics.set_refused(self.name, refused=True)
        self._refusal = error.detail

    def _forget_refusal(self, model: str) -> None:
        self._rests.pop(model, None)
        self._rests.pop(EVERY_MODEL, None)
        if self._refusal is not None:
            log.info("Google takes the credential again", extra={"back_end": self.name})
            self._metrics.set_refused(self.name, refused=False)
            self._refusal = None

    def _note_spending_cap(self, error: UpstreamSpendingCap) -> None:
        if self._cap is None:
            diagnosis = Diagnosis(
                "spending_cap", self.name, error.detail, "Raise the cap or add credit at Google."
            )
            log.error("calls are held until somebody acts", extra={"diagnosis": diagnosis})
            self._metrics.set_spending_cap(self.name, reached=True)
        self._cap = _ReachedCap(error, self._clock() + self._config.quota_probe_s)

    def _forget_spending_cap(self) -> None:
        if self._cap is not None:
            log.info("the spending cap no longer holds calls back", extra={"back_end": self.name})
            self._metrics.set_spending_cap(self.name, reached=False)
            self._cap = None

    def _check_spending_cap(self) -> None:
        """Raise UpstreamSpendingCap while a cap is reached, but let a probe through now and then."""
        if self._cap is None:
            return
        now = self._clock()
        if now >= self._cap.probed_at:
            self._cap.probed_at = now + self._config.quota_probe_s
            return
        known = self._cap.error
        raise UpstreamSpendingCap(
            known.detail, upstream_status=known.upstream_status, reason=known.reason, billed="no"
        )

    def _note_exhausted_quota(self, model: str, left_s: float) -> None:
        now = self._clock()
        self._quotas[model] = _ExhaustedQuota(now + left_s, now + self._config.quota_probe_s)

    def _check_quota(self, model: str) -> None:
        """Raise UpstreamQuota while the daily quota is exhausted, but let a probe through now and then."""
        quota, now = self._quotas.get(model), self._clock()
        if quota is None or now >= quota.until:
            return
        if now >= quota.probed_at:
            quota.probed_at = now + self._config.quota_probe_s
            return
        sentence = "The upstream's daily quota is exhausted."
        left_s = math.ceil(quota.until - now)
        raise UpstreamQuota(sentence, upstream_status=429, reason="RESOURCE_EXHAUSTED", retry_after_s=left_s)

    def _is_client_timeout(self, error: BaseException, took_s: float) -> bool:
        """Whether the caller's own deadline was too short, which says nothing about the back end."""
        timed_out = isinstance(error, DeadlineExceeded) and error.upstream_status is None
        return timed_out and took_s < self._config.slow_s

    def _get_breaker(self, request: GenerationRequest) -> SizeBreaker:
        labels = (request.model, request.image_size or "default")
        if labels not in self._breakers:
            set_breaker = partial(self._metrics.set_breaker, self.name, *labels)
            self._breakers[labels] = SizeBreaker(
                self._config.breaker, self._clock, lambda held_back: set_breaker(held_back=held_back)
            )
        return self._breakers[labels]

    def _get_slots(self, model: str) -> Slots:
        if model not in self._slots:
            self._slots[model] = Slots(self.name, model, self._config.slots, self._metrics, self._clock)
        return self._slots[model]


def _check_not_held_back(left_s: float) -> None:
    if left_s:
        sentence = "The upstream keeps failing, so calls are paused for a moment."
        raise UpstreamUnavailable(sentence, billed="no", retry_after_s=int(left_s) + 1)


def _is_overload(error: BaseException) -> bool:
    """Whether fewer concurrent calls could have avoided the error: a quota, an overload or a timeout."""
    if isinstance(error, UpstreamQuota):
        # Without a status it comes from the gateway's own cap, and the back end never saw the call.
        lasts = error.daily or isinstance(error, UpstreamSpendingCap)
        return error.upstream_status is not None and not lasts
    if isinstance(error, DeadlineExceeded):
        return True
    return isinstance(error, UpstreamError) and error.upstream_status in _OVERLOAD_STATUSES
