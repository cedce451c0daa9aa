"""Images as objects of a bucket: of Amazon S3 and whatever speaks its protocol, of Google Cloud, or of Azure.

An object is the image itself, with its type, so that it can be read without the gateway; what else a header
says is in its metadata. The client finds its credentials in the usual places of its cloud: the environment,
the workload's identity, or the metadata server.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from app.domain.errors import ConfigurationError, StoreUnavailable
from app.pictures.diagnosis import diagnose
from app.pictures.header import Header, build_header, verify_image
from app.pictures.names import build_name, parse_name
from app.pictures.ports import DamagedPicture, StoredObject
from app.resilience.deadlines import time_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from app.domain.generation import Picture
    from app.store.breaker import StoreBreaker

T = TypeVar("T")

READ_DEADLINE_S = 10.0
WRITE_DEADLINE_S = 5.0
"""Limit of a write in seconds; an image that is not stored in time is delivered nevertheless."""

LISTED = 1000
METADATA = "flashgate"
_CLIENT: Any = {
    "timeout": timedelta(seconds=READ_DEADLINE_S),
    "connect_timeout": timedelta(seconds=2),
    # Only an endpoint that an operator has set can be http at all.
    "allow_http": True,
}
PROBE = "probe/"
"""Names of what is written to try the bucket."""

NEVER_AT_START = frozenset({"no_credentials", "no_account", "no_bucket", "wrong_key", "denied"})
"""Reasons for which a start is refused; any other may pass."""


class BucketPictures:
    """``PictureStore`` in a bucket.

    Args:
        url: Such as ``s3://bucket/prefix``.
        setting: The name of the setting, for errors.
        breaker: Refuses calls while the bucket does not answer.

    Raises:
        ValueError: The address or the environment's configuration of the client cannot be used.
    """

    expires = False

    def __init__(self, url: str, setting: str, breaker: StoreBreaker) -> None:
        self.url = url
        self._setting = setting
        self._breaker = breaker
        try:
            self._bucket: Any = from_url(
                url,
                client_options=_CLIENT,
                retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=READ_DEADLINE_S)},
            )
        except (BaseError, ValueError) as error:
            raise ValueError(f"{setting}: {diagnose(error, url)}") from None

    async def put(self, tenant_id: str, picture: Picture, ttl_ms: int) -> None:  # noqa: ARG002
        """Write an image as one object. Its bytes are not copied in Python."""
        header = build_header(tenant_id, picture)
        facts = json.dumps([header.tenant_id, header.mime_type, header.width, header.height])
        attributes = {METADATA: facts}
        if header.mime_type:
            attributes["Content-Type"] = header.mime_type
        await self._write(build_name(tenant_id, picture.id), picture.data, attributes)

    async def get(self, tenant_id: str, image_id: str) -> Picture | None:
        """Read an object into one buffer."""
        name = build_name(tenant_id, image_id)

        async def load() -> tuple[Any, memoryview]:
            reply = await obstore.get_async(self._bucket, name)
            return reply.attributes, memoryview(await reply.bytes_async())

        try:
            attributes, data = await self._run(load(), READ_DEADLINE_S)
        except FileNotFoundError:
            return None
        try:
            tenant, mime_type, width, height = json.loads(attributes[METADATA])
            header = Header(tenant, mime_type, int(width), int(height), len(data), 0)
        except (KeyError, TypeError, ValueError):
            raise DamagedPicture from None
        return await verify_image(header, tenant_id, image_id, data)

    async def exists(self, tenant_id: str, image_id: str) -> bool:
        """Ask for an object's metadata."""
        return await self._find_modified(build_name(tenant_id, image_id)) is not None

    async def delete(self, tenant_id: str, image_ids: Sequence[str]) -> None:
        """Delete objects, several with one request where the cloud can."""
        if image_ids:
            await self._delete([build_name(tenant_id, image_id) for image_id in image_ids])

    async def get_ttl_ms(self, tenant_id: str, image_id: str) -> int:  # noqa: ARG002
        """0, because no image expires by itself."""
        return 0

    async def list_objects(self, after: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """List all objects, a page at a time."""
        pages = obstore.list(self._bucket, offset=after or None, chunk_size=LISTED)
        while True:
            page = await self._run(_read_page(pages), READ_DEADLINE_S)
            if not page:
                return
            yield [
                StoredObject(each["path"], *parse_name(each["path"]), each["last_modified"].timestamp())
                for each in page
            ]

    async def delete_object(self, stored: StoredObject) -> None:
        """Delete a listed object, unless it was written again since."""
        modified_s = await self._find_modified(stored.name)
        if modified_s is not None and modified_s <= stored.modified_s:
            await self._delete([stored.name])

    async def check(self) -> None:
        """Write, read, list and delete an object.

        Raises:
            ConfigurationError: The bucket cannot be used as it is configured.
            StoreUnavailable: It does not answer.
        """
        name = f"{PROBE}{secrets.token_hex(16)}"
        try:
            await self._write(name, b"", {})
            await self._find_modified(name)
            async for _ in self.list_objects():
                break
            await self._delete([name])
        except StoreUnavailable as error:
            diagnosis = diagnose(error.__cause__ or error, self.url)
            if diagnosis.reason in NEVER_AT_START:
                raise ConfigurationError(self._setting, (str(diagnosis),)) from None
            raise

    async def _find_modified(self, name: str) -> float | None:
        """When an object was last written, in Unix seconds by the bucket's clock; None without one."""
        try:
            meta = await self._run(obstore.head_async(self._bucket, name), READ_DEADLINE_S)
        except FileNotFoundError:
            return None
        return float(meta["last_modified"].timestamp())

    async def _write(self, name: str, data: bytes | memoryview, attributes: dict[str, str]) -> None:
        call = obstore.put_async(self._bucket, name, data, attributes=attributes or None, use_multipart=False)
        await self._run(call, WRITE_DEADLINE_S)

    async def _delete(self, names: list[str]) -> None:
        """Delete objects. Some clouds complain of one that does not exist, and then leave the rest."""
        with suppress(FileNotFoundError):
            await self._run(obstore.delete_async(self._bucket, names), READ_DEADLINE_S)
            return
        for name in names:
            with suppress(FileNotFoundError):
                await self._run(obstore.delete_async(self._bucket, name), READ_DEADLINE_S)

    async def _run(self, call: Awaitable[T], deadline_s: float) -> T:
        """Await a call of the client.

        Raises:
            FileNotFoundError: There is no such object.
            StoreUnavailable: Any other failure.
        """
        async with self._breaker.guard():
            try:
                async with time_limit(deadline_s):
                    return await call
            except FileNotFoundError:
                raise
            except (BaseError, OSError) as error:
                raise StoreUnavailable("The bucket of pictures fails.", retry_after_s=1) from error


async def _read_page(pages: Any) -> Sequence[Any]:
    """The next page of a listing; empty at its end."""
    try:
        page: Sequence[Any] = await pages.__anext__()
    except StopAsyncIteration:
        return ()
    return page
