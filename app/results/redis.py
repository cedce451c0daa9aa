"""Finished generations in Redis under their ids, as JSON (``records``); their images are in ``pictures``."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from app.domain.errors import InternalError, StoreUnavailable
from app.domain.stored_generation import is_generation_id
from app.generation import records
from app.pictures.ports import DamagedPicture
from app.pictures.redis import RedisPictures
from app.store import blobs, keys
from app.store.breaker import StoreBreaker
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from app.domain.generation import Picture
    from app.domain.stored_generation import StoredGeneration
    from app.pictures.ports import PictureStore
    from app.results.quota import Quota

log = logging.getLogger(__name__)

CALL_DEADLINE_S = 1.0

_KEEP_FINISHED = read_script(__file__, "finished")


class RedisResults:
    """``ports.Results`` on a Redis or Valkey server.

    Args:
        client: A client that returns replies as bytes; see ``client.open_clients``.
        on_damaged: Called for each damaged or foreign image, which is deleted.
        breaker: Refuses calls while the store does not answer; a new one by default.
        quota: Decides what may be stored; None to store everything.
        pictures: Where the bytes of images are; by default the same server.

    Attributes:
        damaged: How many damaged or foreign images were deleted.
    """

    def __init__(
        self,
        client: Redis,
        on_damaged: Callable[[], None] | None = None,
        breaker: StoreBreaker | None = None,
        quota: Quota | None = None,
        pictures: PictureStore | None = None,
    ) -> None:
        breaker = breaker or StoreBreaker()
        self._client = client
        self._quota = quota
        self._calls = StoreCalls(CALL_DEADLINE_S, breaker)
        self._pictures = pictures or RedisPictures(client, breaker)
        self._on_damaged = on_damaged
        self.damaged = 0

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        """Store the images, one write each. False if one could not be stored.

        The time to live is up to a tenth longer than ``ttl_s``, so that a day's images do not expire at once,
        and none expires before the result that refers to it.
        """
        if ttl_s <= 0:
            return False
        try:
            for picture in pictures:
                ttl_ms = int(ttl_s * 1000 * random.uniform(1.0, 1.1))
                if not await self._has_room(tenant_id, picture, ttl_ms):
                    return False
                await self._pictures.put(tenant_id, picture, ttl_ms)
        except StoreUnavailable:
            # The cache fails open: the caller still gets the image.
            return False
        return True

    async def get_picture(self, tenant_id: str, image_id: str) -> Picture | None:
        """Load an image and verify its hash; None if it is unknown, expired, damaged or foreign.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        if not keys.is_image_id(image_id):
            return None
        try:
            return await self._pictures.get(tenant_id, image_id)
        except DamagedPicture:
            await self._discard(tenant_id, image_id)
            return None

    async def put_generation(self, tenant_id: str, finished: StoredGeneration, ttl_s: int) -> bool:
        """Store a generation under its id, in one command. False if it could not be stored.

        The time to live is up to a tenth shorter than ``ttl_s``, so that its images outlive it.
        """
        conversation = finished.conversation
        files = {file_id for _, file_id in conversation.places} if conversation else set()
        names = [
            keys.generation_key(tenant_id, finished.generation.id),
            *(keys.image_key(tenant_id, file_id) for file_id in sorted(files)),
        ]
        text = records.encode_stored_generation(finished)
        if self._quota is not None and not self._quota.capacity.reserve_text(text):
            return False
        ttl_ms = [int(ttl_s * 1000 * random.uniform(0.9, 1.0)), ttl_s * 1000]
        try:
            await self._calls.run(
                self._client.eval(_KEEP_FINISHED, len(names), *names, text, *map(str, ttl_ms))
            )
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
            finished = records.decode_stored_generation(bytes(value).decode())
        except (records.UnreadableRecord, UnicodeDecodeError):
            return None
        if finished.generation.id == generation_id:
            return finished
        return None

    async def _has_room(self, tenant_id: str, picture: Picture, ttl_ms: int) -> bool:
        if self._quota is None:
            return True
        return await self._quota.reserve(tenant_id, picture.id, picture.length, ttl_ms)

    async def _discard(self, tenant_id: str, image_id: str) -> None:
        self.damaged += 1
        log.error(
            "a stored image is damaged and is deleted", extra={"tenant": tenant_id, "image_id": image_id}
        )
        if self._on_damaged is not None:
            self._on_damaged()
        await self._pictures.delete(tenant_id, [image_id])
