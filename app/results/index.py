"""The index of what is stored of each tenant: ids, sizes and times in one small key, within a quota.

The bytes of images are elsewhere (``pictures``). Where they do not expire by themselves, only what the index
lists may be read, so that deleting from it deletes at once, in every replica (docs/decisions/0062).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.store import keys
from app.store.calls import StoreCalls
from app.store.scripting import read_script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from app.store.breaker import StoreBreaker

IMAGE_BYTES_MAX = 32 << 20
TAKEN_AT_ONCE = 1000
KIB = 1024

_INDEX = read_script(__file__, "index")
_LISTED = read_script(__file__, "listed")
_UNLIST = read_script(__file__, "unlist")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something new: an image or a generation, its size in bytes, and how long it is stored."""

    id: str
    length: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Record:
    """A generation that is stored in the same step."""

    key: str
    value: bytes
    ttl_ms: int


class Index:
    """What is stored of each tenant.

    Args:
        client: A client that returns replies as bytes.
        quota_of: Returns the bytes of images that a tenant may store together; None for no limit. Those that
            expire first are deleted to stay within it.
        image_bytes_max: Larger images are never stored.
        breaker: Refuses calls while the store does not answer; None to make every call.
    """

    def __init__(
        self,
        client: Redis,
        *,
        quota_of: Callable[[str], int | None] = lambda _tenant: None,
        image_bytes_max: int = IMAGE_BYTES_MAX,
        breaker: StoreBreaker | None = None,
    ) -> None:
        self._client = client
        self._calls = StoreCalls(breaker=breaker)
        self._image_bytes_max = image_bytes_max
        self._quota_of = quota_of

    def has_room(self, tenant_id: str, length: int) -> bool:
        """Whether an image of this length may be stored at all."""
        quota = self._quota_of(tenant_id)
        return length <= self._image_bytes_max and (quota is None or length <= quota)

    async def add(
        self,
        tenant_id: str,
        entries: Sequence[Entry],
        record: Record | None = None,
        *,
        extended: Sequence[str] = (),
        extended_keys: Sequence[str] = (),
        least_ms: int = 0,
    ) -> tuple[str, ...]:
        """Note new entries, in one command. Returns the ids of everything that is to be deleted for them.

        Args:
            tenant_id: Whose.
            entries: What is new.
            record: A generation to store with them.
            extended: Ids of listed images that are stored at least ``least_ms`` from now on.
            extended_keys: Keys with a time of their own, to be extended likewise.
            least_ms: In milliseconds.

        Raises:
            InternalError: The store rejected it.
            StoreUnavailable: It is unknown whether it was noted.
        """
        quota = self._quota_of(tenant_id)
        names = [keys.index_key(tenant_id), *([record.key] if record else []), *extended_keys]
        arguments: list[str | int | bytes] = ["" if quota is None else quota // KIB, least_ms]
        arguments += ("", 0) if record is None else (record.value, record.ttl_ms)
        arguments.append(len(entries))
        for entry in entries:
            arguments += (entry.id, -(-entry.length // KIB), entry.ttl_ms)
        arguments += extended
        return await self._run(_INDEX, names, arguments)

    async def find(self, tenant_id: str, ids: Sequence[str]) -> dict[str, int]:
        """Those of some ids that are listed and have not expired, with the milliseconds that are left.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        names = [keys.index_key(tenant_id)]
        reply: Any = await self._calls.run(self._client.eval(_LISTED, 1, *names, *ids))
        return {each: left for each, left in zip(ids, reply, strict=True) if left}

    async def remove(self, tenant_id: str, ids: Sequence[str], names: Sequence[str] = ()) -> tuple[str, ...]:
        """Take ids out, and delete keys of the tenant. Returns those that were listed.

        Raises:
            StoreUnavailable: It is unknown whether it was done; repeating it is safe.
        """
        return await self._run(_UNLIST, [keys.index_key(tenant_id), *names], [0, *ids])

    async def take(self, tenant_id: str) -> tuple[str, ...]:
        """Take out some ids, whichever they are; none where nothing is left. Raises StoreUnavailable."""
        return await self._run(_UNLIST, [keys.index_key(tenant_id)], [TAKEN_AT_ONCE])

    async def _run(
        self, script: str, names: Sequence[str], arguments: Sequence[str | int | bytes]
    ) -> tuple[str, ...]:
        call = self._client.eval(script, len(names), *names, *arguments)
        reply: Any = await self._calls.run(call)
        return tuple(each.decode() for each in reply)
