"""The header before an image's bytes where a store keeps both as one value.

The header names the tenant, so that a value at another tenant's place is never served, and the id is the hash
of the bytes, so that damaged bytes are never served (docs/reliability.md R36, R37).
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture
from app.pictures.ports import DamagedPicture
from app.resilience.tasks import run_in_thread

MAGIC = b"FGI1"
OFF_LOOP_BYTES = 1_000_000
_FIXED = struct.Struct(">4sBBIIQQ")
"""Magic, length of the tenant, length of the MIME type, width, height, length of the image, created (ms)."""

HEADER_BYTES_MAX = _FIXED.size + 2 * 255


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


def build_header(tenant_id: str, picture: Picture) -> Header:
    """The header of an image that is stored now."""
    created_ms = time.time_ns() // 1_000_000
    return Header(tenant_id, picture.mime_type, picture.width, picture.height, picture.length, created_ms)


async def decode_value(tenant_id: str, image_id: str, value: memoryview) -> Picture:
    """Decode a header with an image behind it, and verify both.

    Raises:
        DamagedPicture: It is not this image of this tenant.
    """
    try:
        header, begin = Header.decode(value)
    except ValueError:
        raise DamagedPicture from None
    return await verify_image(header, tenant_id, image_id, value[begin:])


async def verify_image(header: Header, tenant_id: str, image_id: str, data: memoryview) -> Picture:
    """The image of a header and its bytes, which are hashed, off the event loop if they are many.

    Raises:
        DamagedPicture: It is not this image of this tenant.
    """
    if header.tenant_id != tenant_id:
        raise DamagedPicture
    if len(data) > OFF_LOOP_BYTES:
        digest = await run_in_thread(compute_digest, data)
    else:
        digest = compute_digest(data)
    if image_id != f"img_{digest}":
        raise DamagedPicture
    return Picture(image_id, header.mime_type, header.width, header.height, data)
