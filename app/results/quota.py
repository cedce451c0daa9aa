"""Which pictures are kept: within their tenant's quota (docs/reliability.md R43), where there is room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.store import keys
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from app.store.breaker import StoreBreaker
    from app.store.capacity import StoreCapacity


class Quota:
    """Says whether a picture may be kept.

    Args:
        client: Leaving replies as bytes.
        room: Of the store.
        picture_bytes_max: A larger one is never kept.
        quota_of: What a tenant's pictures may take together, in bytes; None for no limit. To keep within it,
            pictures that would expire first are given up.
        breaker: Spares a store that does not answer, and its callers; None to ask in any case.
    """

    def __init__(
        self,
        client: Redis,
        capacity: StoreCapacity,
        *,
        quota_of: Callable[[str], int | None],
        picture_bytes_max: int = 32 << 20,
        breaker: StoreBreaker | None = None,
    ) -> None:
        self._client = client
        self._calls = StoreCalls(breaker=breaker)
        self._picture_bytes_max = picture_bytes_max
        self._quota_of = quota_of
        self.capacity = capacity

    async def reserve(self, tenant_id: str, image_id: str, length: int, ttl_ms: int) -> bool:
        """Whether it may be kept; one command where the tenant has a quota, and one more to make room.

        Raises:
            StoreUnavailable: Nobody knows.
        """
        if length > self._picture_bytes_max or not self.capacity.reserve(length):
            return False
        quota = self._quota_of(tenant_id)
        if quota is None:
            return True
        arguments = (keys.kept_key(tenant_id), image_id, str(length), str(ttl_ms), str(quota))
        reply: Any = await self._calls.run(self._client.eval(read_script(__file__, "kept"), 1, *arguments))
        evicted = [keys.image_key(tenant_id, name.decode()) for name in reply[1:]]
        if evicted:
            await self._calls.run(self._client.unlink(*evicted))
        return bool(reply[0])
