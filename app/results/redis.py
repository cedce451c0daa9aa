"""Finished generations in Redis under their ids, as JSON (``records``); their images are in ``pictures``."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from app.domain.errors import InternalError, StoreUnavailable
from app.domain.stored_generation import is_generation_id
from app.generation import packing, records
from app.pictures.ports import DamagedPicture
from app.pictures.redis import RedisPictures
from app.results.index import Entry, Index, Record
from app.results.sharing import SharedReads
from app.store import blobs, keys
from app.store.breaker import StoreBreaker
from app.store.calls import StoreCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from app.domain.generation import Picture, PictureRecord
    from app.domain.stored_generation import StoredGeneration
    from app.pictures.ports import PictureStore
    from app.store.capacity import StoreCapacity

log = logging.getLogger(__name__)

CALL_DEADLINE_S = 1.0


class RedisResults:
    """``ports.Results`` on a Redis or Valkey server, with the bytes of images in a store for them.

    An image's bytes are written before it is listed, and it is unlisted before its bytes are deleted. So a
    process that dies in between leaves bytes that nobody reads, never an image that is listed without them.
    Redis itself forgets images that are not listed; from other stores ``sweeping`` collects them.

    Args:
        client: A client that returns replies as bytes; see ``client.open_clients``.
        on_damaged: Called for each damaged or foreign image, which is deleted.
        breaker: Refuses calls while the store does not answer; a new one by default.
        index: What is stored of each tenant; by default without a quota.
        capacity: Free capacity of the Redis server; None to store everything.
        pictures: Where the bytes of images are; by default the same server.
        previous: Where they were before, and may still be.

    Attributes:
        damaged: How many damaged or foreign images were deleted.
    """

    def __init__(
        self,
        client: Redis,
        on_damaged: Callable[[], None] | None = None,
        breaker: StoreBreaker | None = None,
        *,
        index: Index | None = None,
        capacity: StoreCapacity | None = None,
        pictures: PictureStore | None = None,
        previous: PictureStore | None = None,
    ) -> None:
        breaker = breaker or StoreBreaker()
        self._client = client
        self._calls = StoreCalls(CALL_DEADLINE_S, breaker)
        self._index = index or Index(client, breaker=breaker)
        self._capacity = capacity
        self._pictures = pictures or RedisPictures(client, breaker)
        self._previous = previous
        self._reads = SharedReads(self._load_picture)
        self._on_damaged = on_damaged
        self.damaged = 0

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        """Store the images, one write each, and list them. False if one could not be stored.

        The time to live is up to a tenth longer than ``ttl_s``, so that a day's images do not expire at once,
        and none expires before the result that refers to it. Where images expire by themselves,
        ``put_generation`` lists them, which saves a command.
        """
        if ttl_s <= 0 or not all(self._has_room(tenant_id, picture) for picture in pictures):
            return False
        entries = [Entry(each.id, each.length, _spread_ttl(ttl_s)) for each in pictures]
        writes = [
            self._pictures.put(tenant_id, picture, entry.ttl_ms)
            for picture, entry in zip(pictures, entries, strict=True)
        ]
        try:
            await asyncio.gather(*writes)
            if entries and not self._pictures.expires:
                await self._list(tenant_id, entries)
        except StoreUnavailable:
            # The cache fails open: the caller still gets the image.
            return False
        return True

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        """Load an image and verify its hash; None if it is unknown, expired, damaged or foreign.

        Everybody who reads the same image at the same time gets the same bytes in memory.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        if not keys.is_image_id(image_id):
            return None
        if not self._pictures.expires:
            listed = bool(await self._index.find(tenant_id, [image_id]))
        elif self._reads.has(tenant_id, image_id):
            listed = await self._pictures.exists(tenant_id, image_id)
        else:
            listed = True
        picture = None
        if listed:
            picture = await self._reads.get(tenant_id, image_id)
        if picture is None and self._previous is not None:
            picture = await self._load_previous(self._previous, tenant_id, image_id)
        return picture

    async def put_generation(
        self,
        tenant_id: str,
        finished: StoredGeneration,
        ttl_s: int,
        files: Sequence[PictureRecord] = (),
    ) -> bool:
        """Store a generation under its id, in one command. False if it could not be stored.

        The time to live is up to a tenth shorter than ``ttl_s``, so that its images outlive it.
        """
        generation, conversation = finished.generation, finished.conversation
        text = records.encode_stored_generation(finished)
        if self._capacity is not None and not self._capacity.reserve_text(text):
            return False
        ttl_ms = int(ttl_s * 1000 * random.uniform(0.9, 1.0))
        record = Record(keys.generation_key(tenant_id, generation.id), packing.pack(text), ttl_ms)
        entries = [Entry(generation.id, 0, ttl_ms)]
        earlier = sorted({file_id for _, file_id in conversation.places} if conversation else set())
        extended_keys: list[str] = []
        if self._pictures.expires:
            images = {each.id: each for each in (*generation.pictures, *generation.interim, *files)}
            entries += [Entry(each.id, each.length, _spread_ttl(ttl_s)) for each in images.values()]
            extended_keys = [keys.image_key(tenant_id, file_id) for file_id in earlier]
        try:
            await self._list(tenant_id, entries, record, earlier, extended_keys, ttl_s * 1000)
        except (InternalError, StoreUnavailable):
            return False
        return True

    async def get_generation(self, tenant_id: str, generation_id: str) -> StoredGeneration | None:
        """Load a generation; None if it is unknown, expired, of another version or foreign.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        if not is_generation_id(generation_id):
            return None
        key = keys.generation_key(tenant_id, generation_id)
        value = await self._calls.run(blobs.get(self._client, key))
        if value is None:
            return None
        try:
            finished = records.decode_stored_generation(packing.unpack(bytes(value)))
        except (records.UnreadableRecord, packing.UnreadablePacking):
            return None
        if finished.generation.id == generation_id:
            return finished
        return None

    async def delete_picture(self, tenant_id: str, image_id: str) -> bool:
        """Delete an image: it is not read again, in any replica. False if there is none.

        Raises:
            StoreUnavailable: It is unknown whether all of it is deleted; repeating it is safe.
        """
        if not keys.is_image_id(image_id):
            return False
        listed = await self._index.remove(tenant_id, [image_id])
        existed = bool(listed) or await self._exists(tenant_id, image_id)
        await self._delete(tenant_id, [image_id])
        return existed

    async def delete_generation(self, tenant_id: str, generation_id: str) -> bool:
        """Delete a generation, its cached result and the images that it drew. False if there is none.

        The files that it was made from stay, because other generations may need them.

        Raises:
            StoreUnavailable: It is unknown whether all of it is deleted; repeating it is safe.
        """
        finished = await self.get_generation(tenant_id, generation_id)
        if finished is None:
            return False
        drawn = [each.id for each in (*finished.generation.pictures, *finished.generation.interim)]
        await self._index.remove(tenant_id, drawn)
        await self._delete(tenant_id, drawn)
        # The record comes last, so that a deletion that was cut off can be repeated.
        own = [
            keys.generation_key(tenant_id, generation_id),
            keys.result_key(tenant_id, finished.fingerprint),
        ]
        await self._index.remove(tenant_id, [generation_id], own)
        return True

    async def forget_tenant(self, tenant_id: str) -> None:
        """Delete every image and generation of a tenant.

        Raises:
            StoreUnavailable: It is unknown whether all of it is deleted; repeating it is safe.
        """
        while ids := await self._index.take(tenant_id):
            await self._delete(tenant_id, ids)

    async def _exists(self, tenant_id: str, image_id: str) -> bool:
        if await self._pictures.exists(tenant_id, image_id):
            return True
        return self._previous is not None and await self._previous.exists(tenant_id, image_id)

    def _has_room(self, tenant_id: str, picture: Picture) -> bool:
        if not self._index.has_room(tenant_id, picture.length):
            return False
        return not self._pictures.expires or self._capacity is None or self._capacity.reserve(picture.length)

    async def _list(
        self,
        tenant_id: str,
        entries: Sequence[Entry],
        record: Record | None = None,
        extended: Sequence[str] = (),
        extended_keys: Sequence[str] = (),
        least_ms: int = 0,
    ) -> None:
        """List new entries, and delete what must go for them."""
        evicted = await self._index.add(
            tenant_id, entries, record, extended=extended, extended_keys=extended_keys, least_ms=least_ms
        )
        if evicted:
            await self._delete(tenant_id, evicted)

    async def _delete(self, tenant_id: str, ids: Sequence[str]) -> None:
        """Delete what is no longer listed."""
        images = [each for each in ids if keys.is_image_id(each)]
        for image_id in images:
            self._reads.forget(tenant_id, image_id)
        generations = [keys.generation_key(tenant_id, each) for each in ids if is_generation_id(each)]
        if generations:
            await self._calls.run(self._client.unlink(*generations))
        await self._delete_bytes(tenant_id, images)

    async def _delete_bytes(self, tenant_id: str, images: Sequence[str]) -> None:
        await self._pictures.delete(tenant_id, images)
        if self._previous is not None:
            await self._previous.delete(tenant_id, images)

    async def _load_previous(self, previous: PictureStore, tenant_id: str, image_id: str) -> Picture | None:
        """Load an image from where images were stored before."""
        if not previous.expires and not await self._index.find(tenant_id, [image_id]):
            return None
        return await self._load(previous, tenant_id, image_id)

    async def _load_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        return await self._load(self._pictures, tenant_id, image_id)

    async def _load(self, store: PictureStore, tenant_id: str, image_id: str) -> Picture | None:
        try:
            return await store.get(tenant_id, image_id)
        except DamagedPicture:
            await self._discard(tenant_id, image_id)
            return None

    async def _discard(self, tenant_id: str, image_id: str) -> None:
        self.damaged += 1
        log.error(
            "a stored image is damaged and is deleted", extra={"tenant": tenant_id, "image_id": image_id}
        )
        if self._on_damaged is not None:
            self._on_damaged()
        await self._index.remove(tenant_id, [image_id])
        await self._delete_bytes(tenant_id, [image_id])


def _spread_ttl(ttl_s: int) -> int:
    """A time to live in milliseconds, up to a tenth longer."""
    return int(ttl_s * 1000 * random.uniform(1.0, 1.1))
