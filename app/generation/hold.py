"""The lease on a hold: from its admission to its settlement, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from app.domain.errors import (
    DeadlineExceeded,
    Draining,
    GatewayError,
    InternalError,
    OperationCancelled,
    Overloaded,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.policy import PATIENCE_S_MIN
from app.generation import booking
from app.generation.job import build_budget_windows
from app.generation.ports import Settled
from app.resilience.best_effort import best_effort
from app.resilience.tasks import cancel_tasks, run_uncancelled

if TYPE_CHECKING:
    from types import TracebackType

    from app.domain.generation import ModelAnswer
    from app.domain.policy import HoldConfig
    from app.generation.job import Job
    from app.generation.ports import Ledger, Settlement
    from app.generation.progress import Progress

log = logging.getLogger(__name__)


class HoldLease:
    """Marks a hold as sent when the first of its calls gets its turn, renews it from then on, and ends it.

    So the hold of a process that dies while its calls still wait is released and not charged. Nothing is sent
    under a hold that could not be marked as sent, and it costs nothing. As a context manager it leaves no
    hold open: one that was not settled inside ends with an unknown outcome.

    Args:
        ledger: Where it is held.
        job: Whose it is.
        progress: Learns that something was sent.
        hold_id: Its name.
        config: How long it outlives its last renewal, and how it ends where something was sent and nobody
            knows what came of it.

    Attributes:
        fault: The error that keeps the hold from being sent, or None.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: Job,
        progress: Progress,
        hold_id: str,
        config: HoldConfig,
    ) -> None:
        self._ledger = ledger
        self._job = job
        self._progress = progress
        self._hold_id = hold_id
        self._config = config
        self._deciding = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._settled = False
        self.fault: GatewayError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_renewing()
        if not self._settled:
            charged = self._progress.sent and self._config.unknown_outcome == "charge"
            ending = booking.build_unknown_settlement(
                self._job, self._hold_id, "charge" if charged else "void"
            )
            await self.settle(ending)
        if isinstance(error, asyncio.CancelledError):
            sentence = "The gateway went down during the call, and nobody knows what came of it."
            raise Draining(sentence, retry_after_s=5) from None

    async def begin(self) -> None:
        """Mark the hold as sent, once for all of its calls. Raises the fault where that fails."""
        async with self._deciding:
            if self.fault is not None:
                raise self.fault
            if self._progress.sent:
                return
            if self._job.left_s < PATIENCE_S_MIN:
                raise booking.build_deadline_error(self._job, self._progress)
            try:
                await self._progress.before_sending()
                open_still = await self._dispatch()
            except OperationCancelled:
                raise  # as for a late caller, the hold is voided at once
            except GatewayError as error:
                self.fault = error
                raise
            except Exception:
                log.exception("a hold could not be marked as sent", extra={"hold_id": self._hold_id})
                self.fault = InternalError()
                raise self.fault from None
            if not open_still:
                ran_out = "The reservation ran out before the call could be made."
                self.fault = Overloaded(ran_out, retry_after_s=1)
                raise self.fault
            self._progress.sent = True
            self._renewing = asyncio.create_task(self._renew())

    def get_call_ending(self, call: asyncio.Task[ModelAnswer]) -> ModelAnswer | GatewayError:
        """The answer or error of a finished call; only the gateway's shutdown cancels one."""
        billed = "maybe" if self._progress.sent else "no"
        if call.cancelled():
            return DeadlineExceeded("The call was cancelled.", billed=billed)
        error = call.exception()
        if error is None:
            return call.result()
        if isinstance(error, GatewayError):
            return error
        log.error("the upstream adapter failed", exc_info=error)
        return UpstreamError("The gateway could not read the upstream's answer.", billed=billed)

    async def stop_renewing(self) -> None:
        """Stop renewing the hold, because the calls are over."""
        if self._renewing is not None:
            with best_effort("heartbeat"):
                await run_uncancelled(cancel_tasks([self._renewing]))

    async def settle(self, settlement: Settlement) -> Settled:
        """End the hold with the whole settlement, or else with its amounts alone.

        If both fail, the lease ends the hold at its estimate.
        """
        self._settled = True
        for version in (settlement, booking.strip_to_amounts(settlement)):
            try:
                return await run_uncancelled(
                    self._ledger.settle(version, build_budget_windows(self._job.caller))
                )
            except Exception:
                log.exception("a settlement failed", extra={"hold_id": self._hold_id})
        moment = time.time_ns() // 1_000_000
        return Settled("unknown", repeated=False, late=False, published=False, now_ms=moment)

    async def _dispatch(self) -> bool:
        return await self._ledger.dispatch(self._job.tenant_id, self._hold_id, self._job.fingerprint)

    async def _renew(self) -> None:
        """Renew the hold and the lead, so that only a dead process loses them (docs/reliability.md R10)."""
        while True:
            await asyncio.sleep(self._config.lease_s / 3)
            with best_effort("heartbeat"), suppress(StoreUnavailable):
                await self._dispatch()
