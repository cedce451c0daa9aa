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

    async def delete(self, tenant_id: str, image_ids: Sequence[str]) -> None:
        """Delete images with one command, UNLINK."""
        if image_ids:
            names = [keys.image_key(tenant_id, image_id) for image_id in image_ids]
            await self._calls.run(self._client.unlink(*names))

    async def list_objects(self, after: str = "") -> AsyncIterator[Sequence[StoredObject]]:  # noqa: ARG002
        """List all images in no order, so ``after`` has no effect; the time of writing is not known."""
        batch: list[StoredObject] = []
        async for name in self._client.scan_iter(match=keys.IMAGES, count=LISTED):
            parsed = keys.parse_image_key(name.decode())
            if parsed is not None:
                batch.append(StoredObject(name.decode(), *parsed, modified_s=0))
            if len(batch) >= LISTED:
                yield batch
                batch = []
        yield batch

    async def delete_object(self, stored: StoredObject) -> None:
        """Delete an image."""
        await self.delete(stored.tenant_id, [stored.image_id])
