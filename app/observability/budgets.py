"""The budgets of all tenants as metrics, read from the store by one replica for all.

A replica that exported what it last saw of a budget would lie as soon as another one spends from it, or its
window ends. So one replica at a time, the holder of a lease, reads all windows and exports them; the others
export none. If the store does not answer, nobody does.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from app.domain.errors import StoreUnavailable
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from app.observability.metrics import Metrics
    from app.tenants.administration import UsageLine


class Lease(Protocol):
    """A claim to be the only replica that does something."""

    async def hold(self) -> bool:
        """Take or renew it; False if another replica has it."""

    async def release(self) -> None:
        """Let another replica take it at once."""


class BudgetMetrics(Resource):
    """Exports all budgets while this replica is the one that does. Use as ``async with``.

    Args:
        list_windows: Reads the current windows of all tenants.
        lease: Held by the replica that exports.
        metrics: Where they are shown.
        every_s: Seconds between two readings; 0 to export none.
    """

    def __init__(
        self,
        list_windows: Callable[[], Awaitable[tuple[UsageLine, ...]]],
        lease: Lease,
        metrics: Metrics,
        every_s: float,
    ) -> None:
        self._list_windows = list_windows
        self._lease = lease
        self._metrics = metrics
        self._every_s = every_s

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._every_s == 0:
            yield
            return
        async with BackgroundTasks() as tasks:
            tasks.keep_running(self._keep_reading, "budget-metrics")
            yield
        with suppress(StoreUnavailable):
            await self._lease.release()

    async def _keep_reading(self) -> None:
        while True:
            await self.read_once()
            await asyncio.sleep(self._every_s)

    async def read_once(self) -> None:
        """Read and show all windows, or show none if that is another replica's turn or cannot be done."""
        lines: tuple[UsageLine, ...] = ()
        with suppress(StoreUnavailable):
            if await self._lease.hold():
                lines = await self._list_windows()
        self._metrics.show_windows(lines)
