"""Images in Redis: raw bytes behind a short header, one value each, verified when they are read.

Finished generations are stored beside them under their ids, as JSON (``records``).

The header names the tenant, so that a reply to another tenant's request is never served, and the id is the
hash of the bytes, so that damaged bytes are never served (docs/reliability.md R36, R37).
"""

from __future__ import annotations

import random
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from app.domain.errors import InternalError, StoreUnavailable
from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture
from app.domain.stored_generation import is_generation_id
from app.generation import records
from app.resilience.tasks import run_in_thread
from app.results import blobs
from app.store import keys
from app.store.breaker import StoreBreaker
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from app.domain.stored_generation import StoredGeneration
    from app.results.quota import Quota

MAGIC = b"FGI1"
OFF_LOOP_BYTES = 1_000_000
READ_DEADLINE_S = 3.0
WRITE_DEADLINE_S = 1.0
"""Limit of a write in seconds; an image that is not stored in time is delivered nevertheless."""

_KEEP_FINISHED = read_script(__file__, "finished")
_FIXED = struct.Struct(">4sBBIIQQ")
"""Magic, length of the tenant, length of the MIME type, width, height, length of the image, created (ms)."""


class Header(NamedTuple):
    """The header before an image's bytes. ``length`` is in bytes, ``created_ms`` is by the writer's clock."""

    tenant_id: str
    mime_type: str
    width: int
    height: int
    length: int
    created_ms: int

    def encode(self) -> bytes:
        """Encode the header; the image's bytes follow directly."""
        tenant, mime_type = self.tenant_id.encode(), self.mime_type.encode()
        fixed = _FIXED.pack(
            MAGIC, len(tenant), len(mime_type), self.width, self.height, self.length, self.created_ms
        )
        return fixed + tenant + mime_type

    @classmethod
    def decode(cls, value: memoryview) -> tuple[Header, int]:
        """Decode a header; return it and the offset of the image.

        Raises:
            ValueError: The value is of another version, or truncated.
        """
        if len(value) < _FIXED.size:
            raise ValueError("The value is shorter than a header.")
        magic, tenant_length, mime_length, width, height, length, created_ms = _FIXED.unpack_from(value)
        begin = _FIXED.size + tenant_length + mime_length
        if magic != MAGIC or len(value) != begin + length:
            raise ValueError("The value is of another version, or truncated.")
        names = bytes(value[_FIXED.size : begin])
        tenant, mime_type = names[:tenant_length].decode(), names[tenant_length:].decode()
        return cls(tenant, mime_type, width, height, length, created_ms), begin


class RedisResults:
    """``ports.Results`` on a Redis or Valkey server.

    Args:
        client: A client that returns replies as bytes; see ``client.open_clients``.
        on_damaged: Called for each damaged or foreign value, which is deleted.
        breaker: Refuses calls while the store does not answer; a new one by default.
        quota: Decides what may be stored; None to store everything.

    Attributes:
        damaged: How many damaged or foreign values were deleted.
    """

    def __init__(
        self,
        client: Redis,
        on_damaged: Callable[[], None] | None = None,
        breaker: StoreBreaker | None = None,
        quota: Quota | None = None,
    ) -> None:
        self._client = client
        self._quota = quota
        self._calls = StoreCalls(WRITE_DEADLINE_S, breaker or StoreBreaker())
        self._on_damaged = on_damaged
        self.damaged = 0

    async def put_pictures(self, tenant_id: str, pictures: tuple[Picture, ...], ttl_s: int) -> bool:
        """Store the images, one command each. False if one could not be stored.

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
                await self._put(tenant_id, picture, ttl_ms)
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
        key = keys.image_key(tenant_id, image_id)
        value = await self._calls.run(blobs.get(self._client, key), READ_DEADLINE_S)
        if value is None:
            return None
        if len(value) > OFF_LOOP_BYTES:
            picture = await run_in_thread(_decode_picture, tenant_id, image_id, value)
        else:
            picture = _decode_picture(tenant_id, image_id, value)
        if picture is None:
            await self._discard(key)
        return picture

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

    async def _put(self, tenant_id: str, picture: Picture, ttl_ms: int) -> None:
        header = Header(
            tenant_id,
            picture.mime_type,
            picture.width,
            picture.height,
            picture.length,
            time.time_ns() // 1_000_000,
        ).encode()
        key = keys.image_key(tenant_id, picture.id)
        await self._calls.run(blobs.put(self._client, key, (header, picture.data), ttl_ms))

    async def _discard(self, key: str) -> None:
        self.damaged += 1
        if self._on_damaged is not None:
            self._on_damaged()
        await self._calls.run(self._client.unlink(key))


def _decode_picture(tenant_id: str, image_id: str, value: memoryview) -> Picture | None:
    """Decode and verify a stored image; None if it is damaged or foreign."""
    try:
        header, begin = Header.decode(value)
    except ValueError:
        return None
    data = value[begin:]
    if header.tenant_id != tenant_id or image_id != f"img_{compute_digest(data)}":
        return None
    return Picture(image_id, header.mime_type, header.width, header.height, bytes(data))
