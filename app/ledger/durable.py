"""A ledger with a memory of its own: settlements are never lost, and a store that loses data is noticed.

This wraps ``RedisLedger`` for the times when the store does not answer, or has lost data:

* A settlement that the store does not acknowledge is kept, on disk where there is one, and settled in the
  background until it is; its caller is answered meanwhile (docs/reliability.md R29).
* A hold that the store has forgotten is put back with everything it was reserved with, then settled.
* A ledger that was lost, as a whole or in part, is noticed and rebuilt from what this replica knows; every
  replica does so with its own part (docs/reliability.md R22; ``app/ledger/recovery.py``).
* While the store does not answer, requests fail at once (docs/reliability.md R28).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from app.domain.budget import NOTHING
from app.domain.config import Config
from app.domain.errors import GatewayError, StoreUnavailable
from app.generation.ports import Lead, Settled, Settlement
from app.ledger.epochs import LedgerDataLost
from app.ledger.grace import Grace
from app.ledger.hold_records import Counter, HoldRecord
from app.ledger.impossible import ImpossibleRequests
from app.ledger.journaling import Journaling, JournalMetrics
from app.ledger.recovery import DataLossMetrics, DataLossPolicy, Recovery
from app.resilience.best_effort import best_effort
from app.resilience.deadlines import time_limit
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.domain.attempt import Attempt, Delivery
    from app.domain.budget import BudgetWindow, WindowState
    from app.domain.rate import RateLimit, RateState
    from app.generation.ports import Absent, Admission, AdmissionRequest, Hit
    from app.ledger.checkpoints import Adjustment
    from app.ledger.hold_records import State
    from app.ledger.journal import Journal
    from app.ledger.redis import RedisLedger
    from app.ledger.restoring import Restorer
    from app.store.breaker import StoreBreaker

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
WATCH_S = 1.0
"""Seconds between looks at whether somebody has deleted the journal's files."""
OPEN_MAX = 100_000
PAUSE_S, PAUSE_MAX_S = 0.05, 1.0

_ENDS: dict[str, State] = {"settle": "settled", "void": "voided", "charge": "charged"}
_OUTCOMES: dict[State, Literal["settle", "void", "charge"]] = {
    "settled": "settle", "voided": "void", "charged": "charge",
}  # fmt: skip


class LedgerMetrics(JournalMetrics, DataLossMetrics, Protocol):
    """Counts everything that happens here; metrics in production."""

    def set_settlements_waiting(self, on_disk: int, in_memory: int) -> None:
        """Set how many settlements the store has not acknowledged, by where they are kept."""


class DurabilityConfig(Config):
    """Outages and data loss of the store.

    Attributes:
        settle_s: Seconds at shutdown for settlements that still wait.
    """

    data_loss_policy: DataLossPolicy = Field(
        "rebuild",
        description="What happens to a tenant whose ledger the store has lost: rebuild it from the "
        "journals, keep the tenant closed until a restart, or open it with nothing used.",
    )
    settle_s: float = 2.0
    store_grace_tokens: int = Field(
        0,
        ge=0,
        description="Input and output tokens that each replica may admit for a tenant while the store does "
        "not answer, booked later; 0 for none, so that no budget can be overspent.",
    )


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A settlement that the store has not acknowledged, with its hold, or None where that is unknown."""

    settlement: Settlement
    windows: tuple[BudgetWindow, ...]
    hold: HoldRecord | None


class DurableLedger(Resource):
    """``ports.Ledger`` around a RedisLedger; use as ``async with``, inside the RedisLedger's own.

    Args:
        breaker: The breaker of the ledger's and the restorer's calls; operators see its state.
        journal: This replica's files, or None without a disk: memory alone then keeps what they would.
        config: The operator's choices.
    """

    def __init__(
        self,
        ledger: RedisLedger,
        restorer: Restorer,
        breaker: StoreBreaker,
        *,
        metrics: LedgerMetrics,
        journal: Journal | None = None,
        config: DurabilityConfig | None = None,
    ) -> None:
        config = config or DurabilityConfig()
        self._ledger = ledger
        self._restorer = restorer
        self.breaker = breaker
        self._metrics = metrics
        self._journal = Journaling(journal, metrics)
        self.recovery = Recovery(
            ledger,
            restorer,
            metrics,
            journal=self._journal,
            data_loss_policy=config.data_loss_policy,
            open_holds=self._open_holds,
        )
        self._settle_s = config.settle_s
        self._grace = Grace(config.store_grace_tokens)
        self._impossible = ImpossibleRequests()
        self._open: OrderedDict[str, tuple[str, HoldRecord]] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}
        self._something_waits = asyncio.Event()
        self._nothing_waits = asyncio.Event()

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        self._nothing_waits.set()
        self._ledger.epochs.update(self._journal.read_epochs())
        for tenant_id, record in self._journal.take_over_pending():
            self._keep(_build_settlement(tenant_id, record), (), record.reopen())
            self._show_waiting()
        try:
            async with BackgroundTasks() as tasks:
                tasks.keep_running(self._settle_what_waits, "settlements")
                tasks.keep_running(self.recovery.look_for_losses, "store-losses")
                tasks.keep_running(self._watch_journal, "journal")
                try:
                    yield
                finally:
                    with contextlib.suppress(TimeoutError):
                        async with time_limit(self._settle_s):
                            await self._nothing_waits.wait()
        finally:
            self._report_what_is_left()

    def _report_what_is_left(self) -> None:
        on_disk = len(self._journal.on_disk)
        if on_disk:
            log.error("settlements are left for the next start", extra={"count": on_disk})
        if len(self._waiting) > on_disk:
            log.error(
                "settlements that were in memory alone are lost; their holds are charged at the estimate",
                extra={"count": len(self._waiting) - on_disk},
            )

    def conditions(self) -> dict[str, str | int]:
        """The state of journal, breaker and waiting settlements, for the health route."""
        return {
            "settlements_waiting": len(self._waiting),
            "settlements_in_memory": len(self._waiting) - len(self._journal.on_disk),
            "journal": self._journal.condition,
            "store_breaker": self.breaker.state,
            "grace_tokens": self._grace.tokens_taken,
        }

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Decide as the store does. A ledger that the store has lost is rebuilt first."""
        if len(self._waiting) >= WAITING_MAX:
            raise StoreUnavailable("Too many settlements wait for the store.", retry_after_s=1)
        impossible = self._impossible.find(request)
        if impossible is not None:
            return impossible
        try:
            admission = await self._ledger.admit(request)
        except LedgerDataLost as lost:
            await self.recovery.recover(request.tenant_id, lost)
            admission = await self._ledger.admit(request)
        except StoreUnavailable:
            hold = self._grace.take(request)
            if hold is None:
                raise
            log.warning("admitted without the store", extra={"tenant": request.tenant_id})
            self._open[hold.hold_id] = (request.tenant_id, hold)
            return Lead(hold.hold_id, (), bound=request.offered[0])
        self._grace.reset()
        self._impossible.note(request, admission)
        if isinstance(admission, Lead):
            self._open[request.hold_id] = (request.tenant_id, _build_hold_record(request, admission))
            if len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)
        return admission

    async def peek(self, request: AdmissionRequest) -> Hit | Absent:
        """As the store does."""
        return await self._ledger.peek(request)

    async def dispatch(self, tenant_id: str, hold_id: str, fingerprint: str) -> bool:
        """As the store does. The first dispatch is journaled: from now on the hold may cost something."""
        text: str | None = ""
        if not self._grace.covers(hold_id):
            text = await self._ledger.dispatch_record(tenant_id, hold_id, fingerprint)
        open_hold = self._open.get(hold_id)
        if open_hold is None or open_hold[1].state != "held":
            return text is not None  # a heartbeat; a hold that has expired meanwhile is settled all the same
        if text is None:
            del self._open[hold_id]
            return False
        record = _decode_record(hold_id, fingerprint, text) or replace(open_hold[1], state="dispatched")
        self._open[hold_id] = (tenant_id, record)
        self._note(tenant_id, record, _now_ms())
        return True

    async def settle(self, settlement: Settlement, windows: tuple[BudgetWindow, ...]) -> Settled:
        """Settle now; without an answer from the store the settlement is kept and is ``deferred``."""
        _, hold = self._open.get(settlement.hold_id, (None, None))
        self._grace.forget(settlement.hold_id)
        try:
            settled = await self._settle(settlement, windows, hold)
        except StoreUnavailable:
            self._keep(settlement, windows, hold)
            await self._write_waiting()
            settled = Settled("deferred", repeated=False, late=False, published=False, now_ms=_now_ms())
        self._open.pop(settlement.hold_id, None)
        return settled

    async def wait(self, tenant_id: str, fingerprint: str, leader: str, timeout_s: float) -> None:
        """As the store does."""
        await self._ledger.wait(tenant_id, fingerprint, leader, timeout_s)

    async def note_delivery(self, tenant_id: str, attempt: Attempt, delivery: Delivery) -> None:
        """As the store does."""
        await self._ledger.note_delivery(tenant_id, attempt, delivery)

    async def get_windows(self, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> tuple[WindowState, ...]:
        """As the store does."""
        return await self._ledger.get_windows(tenant_id, windows)

    async def get_rates(self, tenant_id: str, rates: tuple[RateLimit, ...]) -> tuple[RateState, ...]:
        """As the store does."""
        return await self._ledger.get_rates(tenant_id, rates)

    def _open_holds(self, tenant_id: str) -> dict[str, HoldRecord]:
        """The holds of a tenant that this process has open."""
        return {hold.hold_id: hold for tenant, hold in self._open.values() if tenant == tenant_id}

    # settling

    async def _settle(
        self, settlement: Settlement, windows: tuple[BudgetWindow, ...], hold: HoldRecord | None
    ) -> Settled:
        """Settle. A hold that the store has lost is restored first, once."""
        settled = await self._ledger.settle(settlement, windows)
        if settled.state == "unknown" and hold is not None and settlement.outcome != "void":
            await self._restorer.put_back(settlement.tenant_id, [hold])
            settled = await self._ledger.settle(settlement, windows)
        record = _decode_record(settlement.hold_id, settlement.fingerprint, settled.record)
        if record is not None:
            self._note(settlement.tenant_id, record, settled.now_ms)
        return settled

    def _keep(
        self, settlement: Settlement, windows: tuple[BudgetWindow, ...], hold: HoldRecord | None
    ) -> None:
        self._waiting[settlement.hold_id] = _Waiting(settlement, windows, hold)
        self._nothing_waits.clear()
        self._something_waits.set()

    def _show_waiting(self) -> None:
        on_disk = len(self._journal.on_disk)
        self._metrics.set_settlements_waiting(on_disk, len(self._waiting) - on_disk)

    async def _write_waiting(self) -> None:
        """Write every waiting settlement to the journal, if the disk takes it."""
        records = [
            (item.settlement.tenant_id, _end_hold(item.hold, item.settlement))
            for hold_id, item in self._waiting.items()
            if item.hold is not None and hold_id not in self._journal.on_disk
        ]
        with best_effort("journal"):
            await self._journal.append_pending(records, self._waiting)
        self._show_waiting()

    async def _watch_journal(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            with best_effort("journal"):
                if await self._journal.recreate_if_gone():
                    self._journal.need_checkpoints(self._ledger.epochs)
                    await self._write_waiting()
                    for tenant_id, hold in self._open.values():
                        if hold.state == "dispatched":
                            self._note(tenant_id, hold, _now_ms())
            with best_effort("journal"), contextlib.suppress(StoreUnavailable):
                await self.recovery.take_checkpoints()

    async def _settle_what_waits(self) -> None:
        pause_s = PAUSE_S
        while True:
            await self._something_waits.wait()
            settled = False
            with best_effort("settlements"):
                settled = await self._settle_all()
            if settled:
                pause_s = PAUSE_S
            else:
                await self._write_waiting()
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, pause_s * 2)

    async def _settle_all(self) -> bool:
        """Settle everything that waits, in order. False as soon as the store does not answer."""
        for hold_id, item in list(self._waiting.items()):
            try:
                settled = await self._settle(item.settlement, item.windows, item.hold)
            except StoreUnavailable:
                return False
            except GatewayError:
                log.exception("a settlement contradicts the ledger", extra={"hold_id": hold_id})
            except Exception:
                # Its hold is charged at the estimate when its lease ends; the others must not wait for it.
                log.exception("a settlement cannot be told to the store", extra={"hold_id": hold_id})
            else:
                if settled.state == "unknown" and item.settlement.outcome != "void":
                    log.error("a settlement came too late to be booked", extra={"hold_id": hold_id})
            del self._waiting[hold_id]
            self._journal.on_disk.discard(hold_id)
            self._show_waiting()
        if await self._journal.clear_pending_unless(self._waiting):
            self._something_waits.clear()
            self._nothing_waits.set()
        return True

    def note_adjustment(self, tenant_id: str, adjustment: Adjustment, at_ms: int) -> None:
        """Remember what an operator changed of a budget."""
        self._impossible.forget(tenant_id)
        with best_effort("journal"):
            self._journal.note_adjustment(tenant_id, adjustment, at_ms)

    def _note(self, tenant_id: str, record: HoldRecord, at_ms: int) -> None:
        with best_effort("journal"):
            self._journal.note(tenant_id, record, at_ms, self._ledger.epochs.get(tenant_id))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _build_hold_record(request: AdmissionRequest, lead: Lead) -> HoldRecord:
    """The hold as the store has just written it, for the journal."""
    counters = {
        window.field: Counter(window.budget.unit, window.span.start_ms, window.span.end_ms, window.field)
        for window in lead.windows
    }
    return HoldRecord(
        hold_id=request.hold_id,
        state="held",
        flags="" if request.cache.mode == "bypass" else "f",
        began_ms=lead.windows[0].now_ms if lead.windows else _now_ms(),
        fingerprint=request.fingerprint,
        est=lead.bound.worst,
        act=request.amounts,
        counters=tuple(counters.values()),
    )


def _decode_record(hold_id: str, fingerprint: str, text: str) -> HoldRecord | None:
    """The hold as the store has just written it, None where it was not."""
    if not text:
        return None
    return replace(HoldRecord.decode(hold_id, text), fingerprint=fingerprint)


def _end_hold(hold: HoldRecord, settlement: Settlement) -> HoldRecord:
    return hold.end(_ENDS[settlement.outcome], settlement.amounts, settlement.unresolved)


def _build_settlement(tenant_id: str, record: HoldRecord) -> Settlement:
    """The settlement of a journal line. The journal holds no result, so none is published."""
    outcome = _OUTCOMES[record.state]
    settlement = Settlement(tenant_id, record.hold_id, record.fingerprint, outcome, record.expected)
    return replace(settlement, unresolved=record.unresolved if outcome == "settle" else NOTHING)
