"""One copy in memory of each image that is being read, however many read it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.domain.generation import Picture

_Key = tuple[str, str]


class SharedReads:
    """Loads images once for all who want them at the same time, and while somebody still has one.

    Args:
        load: Loads an image of a tenant, or returns None.
    """

    def __init__(self, load: Callable[[str, str], Awaitable[Picture | None]]) -> None:
        self._load = load
        self._held: WeakValueDictionary[_Key, Picture] = WeakValueDictionary()
        self._loading: dict[_Key, asyncio.Task[Picture | None]] = {}

    def has(self, tenant_id: str, image_id: str) -> bool:
        """Whether somebody in this process has the image, so that it need not be loaded."""
        return (tenant_id, image_id) in self._held

    def forget(self, tenant_id: str, image_id: str) -> None:
        """Load the image again for the next reader."""
        self._held.pop((tenant_id, image_id), None)
        self._loading.pop((tenant_id, image_id), None)

    async def get(self, tenant_id: str, image_id: str) -> Picture | None:
        """The image. Raises what loading it raises; a reader who leaves does not end it for the others."""
        key = (tenant_id, image_id)
        held = self._held.get(key)
        if held is not None:
            return held
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.create_task(self._run(key))
            loading.add_done_callback(_retrieve)
            self._loading[key] = loading
        return await asyncio.shield(loading)

    async def _run(self, key: _Key) -> Picture | None:
        try:
            picture = await self._load(*key)
        finally:
            own = self._loading.get(key) is asyncio.current_task()
            if own:
                del self._loading[key]
        if picture is not None and own:
            self._held[key] = picture
        return picture


def _retrieve(task: asyncio.Task[Picture | None]) -> None:
    """Mark an error as seen, in case every reader has left."""
    if not task.cancelled():
        task.exception()
