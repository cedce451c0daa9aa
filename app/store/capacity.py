"""The free capacity of a store that evicts nothing (docs/reliability.md R32)."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from app.domain.errors import StoreUnavailable
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks
from app.store.calls import StoreCalls
from app.store.client import fetch_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

log = logging.getLogger(__name__)

LOOK_S = 1.0
VALUE_BYTES = 500
"""Bytes that the store needs for any value beside its own: its key and expiry."""
FULL_SHARE = 0.8
SPARE_PART = 4
"""Allocators round sizes up by as much as a quarter."""


class StoreCapacity(Resource):
    """Reserves capacity for large values. Use as ``async with``, so that the store's memory is polled.

    A store that evicts makes room by itself. One that does not (``noeviction``) refuses everything when it is
    full, admissions too. So large values are kept out before that, and the ledger goes on. What was let in
    counts until the store itself has counted it.

    Args:
        client: Leaving replies as bytes.
        full_share: Of the memory of a store that evicts nothing; above it nothing more is kept.
    """

    def __init__(self, client: Redis, full_share: float = FULL_SHARE) -> None:
        self._client = client
        self._calls = StoreCalls()
        self._full_share = full_share
        self._left = math.inf
        self._taken = 0
        self._lacking = 0
        self.full = False

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        with suppress(StoreUnavailable):
            await self.measure()
        async with BackgroundTasks() as tasks:
            tasks.keep_running(self._poll, "store-memory")
            yield

    def conditions(self) -> dict[str, str | int]:
        """Facts for operators, beside whether the store answers."""
        return {"store_full": int(self.full)}

    async def measure(self) -> None:
        """Read how full the store is. Raises StoreUnavailable; then the last reading still counts."""
        nodes = await self._calls.run(fetch_memory(self._client))
        left = min(
            (
                node.limit * self._full_share - node.used
                for node in nodes
                if node.limit and node.evicts_nothing
            ),
            default=math.inf,
        )
        # Values that were reserved since the last reading may not have reached the store yet.
        self._left, self._taken = left - self._taken, 0
        self._set_full(full=left <= self._lacking)
        if not self.full:
            self._lacking = 0

    def reserve(self, length: int) -> bool:
        """Reserve capacity for a value of ``length`` bytes; False if there is too little."""
        size = length + length // SPARE_PART + VALUE_BYTES
        if size > self._left:
            self._lacking = max(self._lacking, size)
            self._set_full(full=True)
            return False
        self._left -= size
        self._taken += size
        return True

    def reserve_text(self, text: str) -> bool:
        """Reserve capacity for a text; False if there is too little."""
        return self.reserve(len(text) if text.isascii() else len(text.encode()))

    def _set_full(self, *, full: bool) -> None:
        if full and not self.full:
            log.warning("the store is nearly full and evicts nothing: images and results are not stored")
        self.full = full

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(StoreUnavailable):
                await self.measure()
