"""The cache quota: which images may be stored, by tenant (docs/reliability.md R43) and by free capacity."""

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
    """Reserves space for images.

    Args:
        client: A client that returns replies as bytes.
        capacity: Free capacity of the store.
        picture_bytes_max: Larger images are never stored.
        quota_of: Returns the total bytes of images that a tenant may store; None for no limit. Images that
            expire first are evicted to stay within it.
        breaker: Refuses calls while the store does not answer; None to make every call.
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
        """Reserve space for an image; False if it may not be stored.

        Sends one command if the tenant has a quota, and one more if other images are evicted.

        Raises:
            StoreUnavailable: The store does not answer.
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
