"""A cap on what all tenants together send to one model at one back end (docs/reliability.md R19).

Google counts requests and tokens a minute by project. Where a cap is set, every attempt first reserves its
part of it, in a ledger of its own beside the tenants'. A refused attempt is not sent: the next back end may
serve it, or the caller learns when to come back and its own hold is voided, as after any refusal that cost
nothing.

A process that dies leaves its part reserved until the minute is over. While the store does not answer,
nothing is reserved: Google's own quota stands behind this one.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from app.domain.budget import Amounts, Budget, build_window
from app.domain.config import Config
from app.domain.errors import GatewayError, StoreUnavailable, UpstreamError, UpstreamQuota
from app.domain.estimate import compute_settled_amounts, estimate
from app.domain.rate import RateLimit
from app.domain.request import CacheDirective
from app.generation.ports import AdmissionRequest, Lead, Limited, Refused, Settlement
from app.ledger.policy import LedgerConfig
from app.resilience.best_effort import best_effort
from app.resilience.tasks import run_uncancelled
from app.store.keys import PROVIDER

if TYPE_CHECKING:
    from app.cards import Catalogue
    from app.domain.budget import BudgetWindow, Unit
    from app.domain.card import Card
    from app.domain.generation import ModelAnswer, Usage
    from app.domain.request import GenerationRequest
    from app.generation.ports import Admission, Call, ImageModel
    from app.ledger.redis import RedisLedger

log = logging.getLogger(__name__)

Outcome = Literal["settle", "void", "charge"]

_UTC = ZoneInfo("UTC")
_BURST_SHARE = 10

PROVIDER_LEDGER = LedgerConfig(lease_s=120, keep_s=600, usage_days=1)
"""A part that is not given back ends with its minute, and holds are soon pruned."""


class ProviderConfig(Config):
    """Caps on each model at each credential of each back end.

    A tenth of the requests may come at once, so no minute sees more than that above the cap.
    """

    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Requests a minute to one model with one credential of a back end, of all tenants and "
        "replicas together; unset for no cap.",
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        description="Input and output tokens a minute of one model with one credential of a back end, of "
        "all tenants and replicas together; unset for no cap.",
    )
    images_per_minute: int | None = Field(
        None,
        ge=1,
        description="Pictures a minute of one model with one credential of a back end, of all tenants and "
        "replicas together; unset for no cap.",
    )


class CappedImageModel:
    """An ImageModel that reserves its part of the cap before each attempt.

    Args:
        model: Makes the attempts.
        back_end: Its name, such as ``vertex`` or ``vertex/images-a``.
        ledger: With leases that outlast a minute; its own, so that what it knows of epochs is of this ledger.
    """

    def __init__(
        self,
        model: ImageModel,
        back_end: str,
        ledger: RedisLedger,
        catalogue: Catalogue,
        config: ProviderConfig,
    ) -> None:
        self._model = model
        self._back_end = back_end
        self._ledger = ledger
        self._catalogue = catalogue
        self._config = config

    async def find_fault(self) -> str | None:
        """Why no call can be made, or None."""
        return await self._model.find_fault()

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        """One attempt, within the cap.

        Raises:
            UpstreamQuota: Also where the cap has no room; then nothing was sent.
            GatewayError: See the port.
        """
        card = self._catalogue.resolve(request.model)
        hold_id = await self._reserve(request, card) if card is not None else None
        if card is None or hold_id is None:
            return await self._model.generate(request, seed, call)
        try:
            answer = await self._model.generate(request, seed, call)
        except GatewayError as error:
            outcome: Outcome = "charge"
            if error.usage is not None:
                outcome = "settle"
            elif isinstance(error, UpstreamError) and error.billed == "no":
                outcome = "void"
            await self._end(hold_id, card, outcome, error.usage, 0)
            raise
        await self._end(hold_id, card, "settle", answer.usage, len(answer.pictures))
        return answer

    async def _reserve(self, request: GenerationRequest, card: Card) -> str | None:
        """The hold, or None if the store does not answer. Raises UpstreamQuota where the cap is reached."""
        hold_id = secrets.token_hex(12)
        admission_request = AdmissionRequest(
            tenant_id=PROVIDER,
            hold_id=hold_id,
            fingerprint=card.id.replace(".", "_"),
            windows=self._build_windows(card),
            amounts=estimate(replace(request, n=1), card).amounts,
            cache=CacheDirective("bypass"),
            rates=self._build_rates(card),
        )
        try:
            admission = await self._ledger.admit(admission_request)
        except StoreUnavailable:
            self._ledger.epochs.pop(PROVIDER, None)
            log.warning("the cap on the upstream is not checked: the store does not answer")
            return None
        if isinstance(admission, Lead):
            return hold_id
        if isinstance(admission, Refused) and any(window.never_fits for window in admission.windows):
            raise UpstreamQuota(
                "This request needs more than all requests to this model may use in a minute; "
                "waiting does not help.",
                billed="no",
            ).with_attributes(retryable=False)
        raise UpstreamQuota(
            "The cap on requests, pictures or tokens a minute for this model is reached.",
            billed="no",
            retry_after_s=_compute_retry_after_s(admission),
        )

    async def _end(
        self,
        hold_id: str,
        card: Card,
        outcome: Outcome,
        usage: Usage | None,
        pictures: int,
    ) -> None:
        """Settle the part; never fails, because the answer is there and paid for."""
        with best_effort("provider_cap"), suppress(StoreUnavailable):
            used = Amounts() if usage is None else compute_settled_amounts(card, usage, pictures)
            settlement = Settlement(PROVIDER, hold_id, card.id.replace(".", "_"), outcome, used)
            await run_uncancelled(self._ledger.settle(settlement, ()))

    def _build_windows(self, card: Card) -> tuple[BudgetWindow, ...]:
        limits: dict[Unit, int | None] = {
            "total_tokens": self._config.tokens_per_minute,
            "images": self._config.images_per_minute,
        }
        budgets = [Budget(unit, "minute", limit) for unit, limit in limits.items() if limit is not None]
        now_ms = time.time_ns() // 1_000_000
        return tuple(build_window(budget, self._name_owner(card), _UTC, now_ms) for budget in budgets)

    def _build_rates(self, card: Card) -> tuple[RateLimit, ...]:
        limit = self._config.requests_per_minute
        if limit is None:
            return ()
        burst = max(1, limit // _BURST_SHARE)
        return (RateLimit("requests", "tenant", f"{self._name_owner(card)}|requests", limit, burst),)

    def _name_owner(self, card: Card) -> str:
        return f"b:{self._back_end.replace('/', ':')}:{card.id}"


def _compute_retry_after_s(admission: Admission) -> int:
    match admission:
        case Limited(rates=rates):
            return max(1, *(-(-rate.retry_in_ms // 1000) for rate in rates))
        case Refused(windows=windows):
            return max(1, *(window.resets_in_s for window in windows))
        case _:
            return 1
