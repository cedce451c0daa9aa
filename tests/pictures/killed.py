"""Stores or deletes an image in a process that kills itself at a named step."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from app.pictures import folder
from app.pictures.opening import Place, open_picture_store
from app.results.index import Index
from app.results.redis import RedisResults
from app.store.breaker import StoreBreaker
from app.store.client import open_clients
from tests.pictures.test_contract import picture

IMAGE = picture(b"a picture" * 50_000)

STEPS: dict[str, tuple[str, Any, str, bool]] = {
    "before anything is written": ("put", folder.FilePictures, "put", True),
    "half of the file is written": ("put", folder, "_write_partial", False),
    "the bytes are written": ("put", Index, "add", True),
    "they are listed": ("put", Index, "add", False),
    "before they are unlisted": ("delete", Index, "remove", True),
    "they are unlisted": ("delete", Index, "remove", False),
    "they are deleted": ("delete", folder.FilePictures, "delete", False),
}
"""What is done, and before or after which call the process dies."""


def die(*_arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def make_deadly(owner: Any, name: str, *, before: bool) -> None:
    real = getattr(owner, name)

    async def call(*arguments: Any, **named: Any) -> Any:
        if not before:
            await real(*arguments, **named)
        die()

    def write_half(partial: Path, pieces: tuple[bytes, ...]) -> None:
        real(partial, (b"".join(pieces)[:1000],))
        die()

    setattr(owner, name, write_half if owner is folder else call)


async def run(step: str, redis_url: str, pictures_url: str, tenant: str) -> None:
    action, owner, name, before = STEPS[step]
    async with open_clients(redis_url, ledger_timeout_s=10) as clients:
        place = Place(Path(), clients.blobs, StoreBreaker())
        pictures = await open_picture_store(pictures_url, "FLASHGATE_PICTURES_URL", place)
        results = RedisResults(clients.blobs, pictures=pictures)
        if action == "delete":
            assert await results.put_pictures(tenant, (IMAGE,), 60)
        make_deadly(type(pictures) if owner is folder.FilePictures else owner, name, before=before)
        if action == "put":
            await results.put_pictures(tenant, (IMAGE,), 60)
        else:
            await results.delete_picture(tenant, IMAGE.id)
    raise AssertionError("still alive")


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
