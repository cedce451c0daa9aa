"""The port of stores for the bytes of images. Adapters stand beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.domain.generation import Picture


class DamagedPicture(Exception):
    """What is stored under an id is not that image of that tenant."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a store, as a listing describes it.

    Attributes:
        name: Its name in the store, by which a listing can go on after it.
        tenant_id: Whose; empty for an object that is no image, such as the rest of an interrupted write.
        image_id: Its id, or empty.
        modified_s: When it was last written, in Unix seconds by the store's clock.
    """

    name: str
    tenant_id: str
    image_id: str
    modified_s: float


class PictureStore(Protocol):
    """Keeps the bytes of images by tenant and id. A write is whole or absent, never partly visible.

    Attributes:
        expires: Whether it forgets an image by itself after its time. If not, the index decides what may be
            read, and what it no longer lists is collected.
    """

    expires: bool

    async def put(self, tenant_id: str, picture: Picture, ttl_ms: int) -> None:
        """Store an image; storing it again changes nothing but its time.

        Raises:
            StoreUnavailable: It is unknown whether it was stored.
        """

    async def get(self, tenant_id: str, image_id: str) -> Picture | None:
        """Load an image, checked against its id; None without one.

        Raises:
            DamagedPicture: The stored bytes are not this image.
            StoreUnavailable: Nobody knows.
        """

    async def exists(self, tenant_id: str, image_id: str) -> bool:
        """Whether there is such an image. Raises StoreUnavailable."""

    async def delete(self, tenant_id: str, image_ids: Sequence[str]) -> None:
        """Delete images; those that do not exist are ignored. Raises StoreUnavailable."""

    async def get_ttl_ms(self, tenant_id: str, image_id: str) -> int:
        """How long an image still exists by itself; 0 without one, or where none expires by itself."""

    def list_objects(self, after: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """List all objects, a bounded number at a time, in the order of their names.

        Args:
            after: Only those whose names come later.

        Raises:
            StoreUnavailable: The store does not answer.
        """

    async def delete_object(self, stored: StoredObject) -> None:
        """Delete what a listing returned, unless it was written again since. Raises StoreUnavailable."""

    async def check(self) -> None:
        """Try everything that is needed.

        Raises:
            ConfigurationError: The store cannot be used as it is configured.
            StoreUnavailable: It does not answer.
        """
