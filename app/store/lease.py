"""A lease: of all replicas one holds it, as long as it renews it in time."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from app.store.calls import StoreCalls

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Lease:
    """A replica's claim to be the only one that does something.

    For a moment two replicas may hold it, if one of them could not renew it in time: it saves work, and
    protects nothing.

    Args:
        client: A client that returns replies as bytes.
        key: Names what is done.
        ttl_s: Seconds for which it is held without being renewed.
    """

    def __init__(self, client: Redis, key: str, ttl_s: float) -> None:
        self._client = client
        self._calls = StoreCalls()
        self._key = key
        self._ttl_ms = round(ttl_s * 1000)
        self._name = secrets.token_hex(8).encode()

    async def hold(self) -> bool:
        """Take or renew the lease; False if another replica holds it. Raises StoreUnavailable."""
        holder = await self._calls.run(self._client.get(self._key))
        if holder is None:
            taken = self._client.set(self._key, self._name, nx=True, px=self._ttl_ms)
            return bool(await self._calls.run(taken))
        if holder != self._name:
            return False
        return bool(await self._calls.run(self._client.pexpire(self._key, self._ttl_ms)))

    async def release(self) -> None:
        """Let another replica take it at once. Raises StoreUnavailable."""
        if await self.hold():
            await self._calls.run(self._client.delete(self._key))
