"""Whether a picture fits into the store, and into its tenant's quota (docs/reliability.md R32, R43)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from app.domain.errors import StoreUnavailable
from app.resilience.tasks import cancelled
from app.store import keys
from app.store.client import memory_of, store_errors
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from redis.asyncio import Redis

log = logging.getLogger(__name__)

LOOK_S = 1.0


class Room:
    """Says whether a picture may be kept; use as ``async with``, to look how full the store is.

    A store that evicts makes room by itself. One that does not (``noeviction``) refuses everything when it is
    full, admissions too: so pictures are kept out before, and the books go on.

    Args:
        client: Leaving replies as bytes.
        picture_bytes_max: A larger one is never kept.
        full_share: Of the memory of a store that evicts nothing; above it no picture is kept.
        quota_of: What a tenant's pictures may take together, in bytes; None for no limit. To keep within it,
            pictures that would expire first are given up.
    """

    def __init__(
        self,
        client: Redis,
        *,
        picture_bytes_max: int,
        full_share: float,
        quota_of: Callable[[str], int | None],
    ) -> None:
        self._client = client
        self._picture_bytes_max = picture_bytes_max
        self._full_share = full_share
        self._quota_of = quota_of
        self._tasks: list[asyncio.Task[None]] = []
        self.full = False

    async def __aenter__(self) -> Self:
        with suppress(StoreUnavailable):
            await self.look()
        self._tasks = [asyncio.create_task(self._keep_looking(), name="store-memory")]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await cancelled(self._tasks)

    def conditions(self) -> dict[str, str | int]:
        """What an operator wants to see beside whether the store answers."""
        return {"store_full": int(self.full)}

    async def look(self) -> None:
        """See how full the store is. Raises StoreUnavailable; then what was seen last still counts."""
        async with store_errors():
            nodes = await memory_of(self._client)
        before = self.full
        self.full = any(
            node.evicts_nothing and node.used > node.limit * self._full_share for node in nodes if node.limit
        )
        if self.full and not before:
            log.warning("the store is nearly full and evicts nothing: no picture is kept")

    async def for_picture(self, tenant_id: str, image_id: str, length: int, ttl_ms: int) -> bool:
        """Whether it may be kept; one command where the tenant has a quota, and one more to make room.

        Raises:
            StoreUnavailable: Nobody knows.
        """
        if self.full or length > self._picture_bytes_max:
            return False
        quota = self._quota_of(tenant_id)
        if quota is None:
            return True
        asked = (keys.kept_key(tenant_id), image_id, str(length), str(ttl_ms), str(quota))
        async with store_errors():
            found: Any = await self._client.eval(read_script(__file__, "kept"), 1, *asked)
            gone = [keys.image_key(tenant_id, name.decode()) for name in found[1:]]
            if gone:
                await self._client.unlink(*gone)
        return bool(found[0])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(StoreUnavailable):
                await self.look()
