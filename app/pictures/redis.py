"""Images in the Redis or Valkey server of the books: a value each, with a time to live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.pictures.header import build_header, decode_value
from app.pictures.ports import StoredObject
from app.store import blobs, keys
from app.store.calls import StoreCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from app.domain.generation import Picture
    from app.store.breaker import StoreBreaker

READ_DEADLINE_S = 3.0
WRITE_DEADLINE_S = 1.0
"""Limit of a write in seconds; an image that is not stored in time is delivered nevertheless."""

SCAN_DEADLINE_S = 30.0
"""Limit of one step of a scan, which passes by all other keys of the store."""

LISTED = 500


class RedisPictures:
    """``PictureStore`` on a Redis or Valkey server.

    Args:
        client: A client that returns replies as bytes; see ``client.open_clients``.
        breaker: Refuses calls while the store does not answer.
    """

    expires = True

    def __init__(self, client: Redis, breaker: StoreBreaker | None = None) -> None:
        self._client = client
        self._calls = StoreCalls(WRITE_DEADLINE_S, breaker)

    async def put(self, tenant_id: str, picture: Picture, ttl_ms: int) -> None:
        """Store an image with one command, SET."""
        header = build_header(tenant_id, picture).encode()
        key = keys.image_key(tenant_id, picture.id)
        await self._calls.run(blobs.put(self._client, key, (header, picture.data), ttl_ms))

    async def get(self, tenant_id: str, image_id: str) -> Picture | None:
        """Load an image with one command, GET."""
        key = keys.image_key(tenant_id, image_id)
        value = await self._calls.run(blobs.get(self._client, key), READ_DEADLINE_S)
        if value is None:
            return None
        return await decode_value(tenant_id, image_id, value)

    async def exists(self, tenant_id: str, image_id: str) -> bool:
        """Look for an image with one command, EXISTS."""
        key = keys.image_key(tenant_id, image_id)
        return bool(await self._calls.run(self._client.exists(key), READ_DEADLINE_S))

    async def delete(self, tenant_id: str, image_ids: Sequence[str]) -> None:
        """Delete images with one command, UNLINK."""
        if image_ids:
            names = [keys.image_key(tenant_id, image_id) for image_id in image_ids]
            await self._calls.run(self._client.unlink(*names))

    async def get_ttl_ms(self, tenant_id: str, image_id: str) -> int:
        """The key's time to live."""
        key = keys.image_key(tenant_id, image_id)
        return max(0, int(await self._calls.run(self._client.pttl(key))))

    async def list_objects(self, after: str = "") -> AsyncIterator[Sequence[StoredObject]]:  # noqa: ARG002
        """List all images in no order, so ``after`` has no effect; the time of writing is not known."""
        scan: list[AsyncIterator[bytes]] = []
        while names := await self._calls.run(self._scan_on(scan), SCAN_DEADLINE_S):
            parsed = {name: keys.parse_image_key(name) for name in names}
            yield [StoredObject(name, *owner, modified_s=0) for name, owner in parsed.items() if owner]

    async def _scan_on(self, scan: list[AsyncIterator[bytes]]) -> list[str]:
        """The next names of a scan, which is begun where the list is empty."""
        if not scan:
            scan.append(self._client.scan_iter(match=keys.IMAGES, count=LISTED))
        names = []
        async for name in scan[0]:
            names.append(name.decode())
            if len(names) >= LISTED:
                break
        return names

    async def delete_object(self, stored: StoredObject) -> None:
        """Delete an image."""
        await self.delete(stored.tenant_id, [stored.image_id])

    async def check(self) -> None:
        """Do nothing, because the store of the books is tried for itself."""
