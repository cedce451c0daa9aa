"""The step from a reserved hold to a call that may cost something."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from app.domain.errors import (
    DeadlineExceeded,
    GatewayError,
    InternalError,
    OperationCancelled,
    Overloaded,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.policy import PATIENCE_S_MIN
from app.generation import booking
from app.resilience.best_effort import best_effort
from app.resilience.tasks import cancelled, uncancelled

if TYPE_CHECKING:
    from types import TracebackType

    from app.domain.generation import ModelAnswer
    from app.generation.job import Job
    from app.generation.ports import Lead, Ledger

log = logging.getLogger(__name__)


class Sending:
    """Marks a hold as sent when the first of its calls gets its turn, and renews it from then on.

    So a process that dies while its calls still wait leaves a hold that is released, not charged. A hold
    that could not be marked as sent is never sent, and costs nothing.

    Attributes:
        begun: Whether something may have been sent.
        fault: Why nothing may be sent under this hold, or None.
    """

    def __init__(self, ledger: Ledger, job: Job, lead: Lead, lease_s: float) -> None:
        self._ledger = ledger
        self._job = job
        self._lead = lead
        self._lease_s = lease_s
        self._deciding = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self.begun = False
        self.fault: GatewayError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._beating is not None:
            with best_effort("heartbeat"):
                await uncancelled(cancelled([self._beating]))

    async def begin(self) -> None:
        """Mark the hold as sent, once for all of its calls. Raises the fault where that was not possible."""
        async with self._deciding:
            if self.begun or self.fault is not None:
                if self.fault is not None:
                    raise self.fault
                return
            if self._job.left_s < PATIENCE_S_MIN:
                raise booking.late(self._job)
            try:
                if self._job.before_sending is not None:
                    await self._job.before_sending()
                open_still = await self._dispatch()
            except OperationCancelled:
                raise  # as for a late caller, the hold is void at once
            except GatewayError as error:
                self.fault = error
                raise
            except Exception:
                log.exception("a hold could not be marked as sent", extra={"hold_id": self._lead.hold_id})
                self.fault = InternalError()
                raise self.fault from None
            if not open_still:
                ran_out = "The reservation ran out before the call could be made."
                self.fault = Overloaded(ran_out, retry_after_s=1)
                raise self.fault
            self.begun = self._job.sent = True
            self._beating = asyncio.create_task(self._beat())

    def ending_of(self, call: asyncio.Task[ModelAnswer]) -> ModelAnswer | GatewayError:
        """What a call that is over came to; only the gateway's own end cancels one."""
        billed = "maybe" if self.begun else "no"
        if call.cancelled():
            return DeadlineExceeded("The call was cancelled.", billed=billed)
        raised = call.exception()
        if raised is None:
            return call.result()
        if isinstance(raised, GatewayError):
            return raised
        log.error("the upstream adapter failed", exc_info=raised)
        return UpstreamError("The gateway could not read the upstream's answer.", billed=billed)

    async def _dispatch(self) -> bool:
        return await self._ledger.dispatch(self._job.tenant_id, self._lead.hold_id, self._job.fingerprint)

    async def _beat(self) -> None:
        """Renew the hold and the lead, so that only a dead process loses them (docs/reliability.md R10)."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with best_effort("heartbeat"), suppress(StoreUnavailable):
                await self._dispatch()
