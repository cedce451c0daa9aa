"""Opens the store of images that an address names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from app.domain.config import Config
from app.domain.errors import StoreUnavailable
from app.pictures.bucket import BucketPictures
from app.pictures.diagnosis import diagnose
from app.pictures.folder import FilePictures
from app.pictures.redis import RedisPictures
from app.store.breaker import StoreBreaker

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from app.pictures.ports import PictureStore

log = logging.getLogger(__name__)

BUCKETS = ("s3", "gs", "az")
FORMS = "redis:, file:, file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


class PicturesConfig(Config):
    """Where the bytes of pictures and files are."""

    url: str | None = Field(
        None,
        description="Where the bytes of pictures are stored: redis: for the store of the budgets, file: for "
        "`pictures` in the state directory, file:///folder, s3://bucket/prefix, gs://bucket/prefix or "
        "az://container/prefix. Unset for file: with the embedded store, else redis:.",
    )
    previous_url: str | None = Field(
        None,
        description="Where pictures were stored before; they are still found there, and moved in the "
        "background.",
    )
    quota_mb: int = Field(
        10_240,
        ge=1,
        description="Size of all pictures of a tenant without a `cache.quota_mb` of its own, in MiB; those "
        "that expire first are deleted first.",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """What stores need that an address does not say.

    Attributes:
        state_dir: For ``file:`` without a folder.
        client: Of the Redis server, leaving replies as bytes.
        breaker: The Redis server's.
    """

    state_dir: Path
    client: Redis
    breaker: StoreBreaker


async def open_picture_store(url: str, setting: str, place: Place) -> PictureStore:
    """The store of an address, after everything that it needs has been tried.

    Args:
        url: One of ``FORMS``.
        setting: The name of the setting, for errors.
        place: See there.

    Raises:
        ConfigurationError: It cannot be used as it is configured. One that does not answer yet can be.
        ValueError: The address is none of them, or the environment of its client cannot be used.
    """
    store = _build_store(url, setting, place)
    try:
        await store.check()
    except StoreUnavailable as error:
        diagnosis = diagnose(error.__cause__ or error, url)
        log.warning("the store of pictures does not answer", extra={"diagnosis": diagnosis})
    return store


def _build_store(url: str, setting: str, place: Place) -> PictureStore:
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{setting} holds more than an address; use {FORMS}.")
    if url == "redis:":
        return RedisPictures(place.client, place.breaker)
    if url == "file:":
        return FilePictures(place.state_dir.absolute() / "pictures", setting)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and parts.path != "/":
        return FilePictures(Path(parts.path), setting)
    if parts.scheme in BUCKETS and parts.netloc:
        return BucketPictures(url, setting, StoreBreaker(address=url, diagnose=diagnose))
    raise ValueError(f"{setting} is no address of a store of pictures; use {FORMS}.")
