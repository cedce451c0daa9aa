"""Slots: permits for concurrent calls to a back end, assigned by priority class and fairly between tenants.

A call without a free slot waits in a queue that is bounded in length and in age, and is rejected at once if
the queue is full. Nothing was sent for a waiting call, so rejecting it costs nothing (docs/decisions/0015,
docs/decisions/0016).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import Field

from app.domain.config import Config
from app.domain.errors import DeadlineExceeded, Overloaded
from app.resilience.deadlines import time_limit
from app.resilience.wide_event import add_to
from app.upstream.concurrency import AdaptiveLimit
from app.upstream.retries import CALL_S_MIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from app.domain.tenancy import Priority
    from app.generation.ports import Call
    from app.upstream.metrics import UpstreamMetrics

CLASSES: Final[tuple[Priority, ...]] = ("critical", "interactive", "batch")
_SOME_CALL_S: Final = 10.0
_RETRY_AFTER_S_MAX: Final = 60


class SlotConfig(Config):
    """Slots for calls to one model at one back end.

    ``min`` of them are left by the worst overload.
    """

    min: int = Field(2, ge=1)
    max: int = Field(
        100,
        ge=1,
        description="Most concurrent calls to one model at one back end; fewer under overload.",
    )
    queue_max: int = Field(
        200, ge=0, description="Calls that may wait for one model at one back end; more are refused with 503."
    )
    queue_s: float = Field(
        15,
        ge=0,
        description="Longest wait for a call's turn, in seconds; at most two thirds of the lease, because a "
        "waiting hold is not renewed.",
    )
    reserved_for_critical: float = Field(
        0.1, ge=0, le=0.5, description="Share of the slots that only calls of the class critical get."
    )
    reserved_for_interactive: float = Field(
        0.1, ge=0, le=0.5, description="Further share of the slots that calls of the class batch do not get."
    )


@dataclass(slots=True)
class Slot:
    """The permit of one running call, and the outcome that its holder reports.

    Attributes:
        era: The era of the limit when the slot was taken.
        overloaded: Whether the back end was overloaded.
        delivered: Whether the call succeeded.
    """

    era: int
    overloaded: bool = False
    delivered: bool = False


@dataclass(slots=True, eq=False)
class _Waiter:
    tenant_id: str
    priority: Priority
    number: int
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Slots:
    """The slots of one back end for one model.

    Args:
        back_end: Label for metrics.
        model: Label for metrics.
        config: How many slots there are, and who gets them.
        metrics: Shows slots and queues.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        back_end: str,
        model: str,
        config: SlotConfig,
        metrics: UpstreamMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = (back_end, model)
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._limit = AdaptiveLimit(config.min, config.max)
        self._by_class: Counter[Priority] = Counter()
        self._by_tenant: Counter[str] = Counter()
        self._queue: dict[Priority, dict[str, deque[_Waiter]]] = {priority: {} for priority in CLASSES}
        self._numbers = 0
        self._held_s = _SOME_CALL_S

    @property
    def limit(self) -> int:
        """Calls that may run at once."""
        return self._limit.calls

    @property
    def in_use(self) -> int:
        """Calls that are running."""
        return self._by_class.total()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return sum(self._count_waiting(priority) for priority in CLASSES)

    @asynccontextmanager
    async def acquire(self, call: Call) -> AsyncIterator[Slot]:
        """Hold a slot while the block runs.

        Raises:
            Overloaded: The queue is full, or the call waited too long. Nothing was sent.
            DeadlineExceeded: No slot became free before the call's own deadline. Nothing was sent.
        """
        if self._has_room(call.priority):
            self._take(call.tenant_id, call.priority)
        else:
            queued = self._clock()
            try:
                await self._wait(call)
            finally:
                add_to("queue_ms", round((self._clock() - queued) * 1000, 1))
        taken, began = Slot(self._limit.era), self._clock()
        try:
            yield taken
        finally:
            self._record_outcome(taken, self._clock() - began)
            self._release(call.tenant_id, call.priority)

    def _record_outcome(self, slot: Slot, held_s: float) -> None:
        if slot.overloaded:
            self._limit.record_overload(slot.era)
        elif slot.delivered:
            self._limit.record_success(self.in_use)
            self._held_s += (held_s - self._held_s) / 8  # a moving average over about eight calls

    # who gets one

    def _has_room(self, priority: Priority) -> bool:
        """Whether a call of this class may start. If a class may, all higher classes may too."""
        limit, used = self.limit, self._by_class
        if self.in_use >= limit:
            return False
        if priority == "critical":
            return True
        common = max(1, limit - math.floor(limit * self._config.reserved_for_critical))
        if used["interactive"] + used["batch"] >= common:
            return False
        lowest = max(1, common - math.floor(limit * self._config.reserved_for_interactive))
        return priority == "interactive" or used["batch"] < lowest

    def _take(self, tenant_id: str, priority: Priority) -> None:
        self._by_class[priority] += 1
        self._by_tenant[tenant_id] += 1
        self._metrics.set_slots(*self._labels, self.limit, self.in_use)

    def _release(self, tenant_id: str, priority: Priority) -> None:
        self._by_class[priority] -= 1
        self._by_tenant[tenant_id] -= 1
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]
        self._assign_free_slots()
        self._metrics.set_slots(*self._labels, self.limit, self.in_use)

    def _assign_free_slots(self) -> None:
        """Give free slots to waiting calls: highest class first, then the tenant with the fewest slots."""
        for priority in CLASSES:
            line = self._queue[priority]
            while line and self._has_room(priority):
                tenant_id = min(line, key=lambda each: (self._by_tenant[each], line[each][0].number))
                waiter = line[tenant_id][0]
                self._leave(waiter)
                if waiter.turn.done():
                    # The waiter has just been cancelled or timed out, and its task has not run since. Its own
                    # cleanup finds it gone from the queue, and the slot goes to the next one.
                    continue
                self._take(waiter.tenant_id, waiter.priority)
                waiter.turn.set_result(None)

    # the queue

    def _count_waiting(self, priority: Priority) -> int:
        return sum(map(len, self._queue[priority].values()))

    async def _wait(self, call: Call) -> None:
        until_late_s = call.timeout_s - CALL_S_MIN
        if until_late_s <= 0:
            raise self._reject_late(call)
        waiter = self._join(call)
        try:
            async with time_limit(min(self._config.queue_s, until_late_s)):
                await waiter.turn
        except BaseException as error:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                # The slot was assigned in the same moment in which the wait ended, so it must be given back.
                self._release(call.tenant_id, call.priority)
            else:
                self._leave(waiter)
            if not isinstance(error, TimeoutError):
                raise
            if until_late_s <= self._config.queue_s:
                raise self._reject_late(call) from None
            raise self._shed(call.priority, "aged") from None

    def _join(self, call: Call) -> _Waiter:
        """Enter the queue. If it is full, another waiter is dropped, or the call is rejected."""
        if self.waiting >= self._config.queue_max:
            dropped = self._find_waiter_to_drop(call)
            if dropped is None:
                raise self._shed(call.priority, "full")
            self._leave(dropped)
            if not dropped.turn.done():
                dropped.turn.set_exception(self._shed(dropped.priority, "full"))
        self._numbers += 1
        waiter = _Waiter(call.tenant_id, call.priority, self._numbers)
        self._queue[call.priority].setdefault(call.tenant_id, deque()).append(waiter)
        self._metrics.set_queue_length(*self._labels, call.priority, self._count_waiting(call.priority))
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        line = self._queue[waiter.priority]
        if waiter in line.get(waiter.tenant_id, ()):
            line[waiter.tenant_id].remove(waiter)
            if not line[waiter.tenant_id]:
                del line[waiter.tenant_id]
            self._metrics.set_queue_length(
                *self._labels, waiter.priority, self._count_waiting(waiter.priority)
            )

    def _find_waiter_to_drop(self, call: Call) -> _Waiter | None:
        """The waiter to drop from a full queue in favour of this call, or None to reject the call itself.

        It is the latest waiter of the tenant with most waiting calls, in the lowest class with any. In the
        call's own class, that tenant must have more waiting calls than the call's tenant would have with it.
        So no tenant can keep the others out of the queue.
        """
        lowest = next(self._list_lower_classes(call.priority), None)
        if lowest is None:
            return None
        line = self._queue[lowest]
        most = max(line, key=lambda each: (len(line[each]), line[each][-1].number))
        if lowest == call.priority and len(line[most]) <= len(line.get(call.tenant_id, ())) + 1:
            return None
        return line[most][-1]

    def _list_lower_classes(self, priority: Priority) -> Iterator[Priority]:
        """Classes with waiting calls from the lowest up to this one."""
        for each in reversed(CLASSES):
            if self._queue[each]:
                yield each
            if each == priority:
                return

    def _shed(self, priority: Priority, reason: str) -> Overloaded:
        self._metrics.count_shed(*self._labels, priority, reason)
        soon_s = math.ceil(self._held_s * (self.waiting + 1) / self.limit)
        sentence = {
            "full": "The queue of calls to the model is full.",
            "aged": "No slot for a call to the model became free in time.",
        }[reason]
        return Overloaded(sentence, retry_after_s=max(1, min(_RETRY_AFTER_S_MAX, soon_s)))

    def _reject_late(self, call: Call) -> DeadlineExceeded:
        self._metrics.count_shed(*self._labels, call.priority, "late")
        sentence = f"No slot became free {CALL_S_MIN:g} s before the deadline; nothing was sent."
        return DeadlineExceeded(sentence, billed="no")
