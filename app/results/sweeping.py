"""The sweep: collects what lies in a store of images and is listed nowhere, and empties the previous store.

Whatever a dead process left half done is such an object: bytes that were never listed, bytes that were
unlisted and not deleted, the rest of an interrupted write. Each pass is bounded, and all replicas together
make one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from app.domain.errors import StoreUnavailable
from app.pictures.ports import DamagedPicture
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks
from app.results.index import Entry
from app.store import keys
from app.store.calls import StoreCalls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

    from app.pictures.ports import PictureStore, StoredObject
    from app.results.index import Index

log = logging.getLogger(__name__)

PASS_S = 60.0
"""Seconds between two passes of all replicas together."""

REST_S = 3600.0
"""Seconds after the last pass of a round through the whole store."""

OBJECTS_MAX = 5000
"""Objects that one pass looks at."""

GRACE_S = 3600.0
"""Age of an object in seconds before it is collected; no write takes as long until it is listed."""

REMEMBERED_S = 7 * 86_400


class Round(NamedTuple):
    """How far a round through one store is: the last name, and how many images it has come across."""

    after: str = ""
    seen: int = 0


class Sweep(Resource):
    """Sweeps in the background. Use as ``async with``.

    Args:
        client: A client that returns replies as bytes.
        index: What may be read.
        pictures: Where images are stored.
        previous: Where images were stored before, which is emptied; None without.
        on_collected: Called with the number of objects that a pass has collected.
        on_left: Called with how many images the previous store had in the last round.
        clock: The present in Unix seconds.
    """

    def __init__(
        self,
        client: Redis,
        index: Index,
        pictures: PictureStore,
        previous: PictureStore | None = None,
        *,
        on_collected: Callable[[int], None] = lambda _count: None,
        on_left: Callable[[int], None] = lambda _count: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._calls = StoreCalls()
        self._index = index
        self._pictures = pictures
        self._previous = previous
        self._on_collected = on_collected
        self._on_left = on_left
        self._clock = clock
        self._left: int | None = None

    def conditions(self) -> dict[str, str | int]:
        """Facts for operators: how many images the last round found in the previous store."""
        return {} if self._left is None else {"pictures_in_previous_store": self._left}

    async def run_pass(self) -> bool:
        """Make one pass, unless another replica has made one a moment ago. Returns whether it was made.

        Raises:
            StoreUnavailable: A store does not answer; the next pass goes on where this one began.
        """
        milliseconds = int(PASS_S * 1000)
        if not await self._calls.run(self._client.set(keys.SWEEPING, b"1", nx=True, px=milliseconds)):
            await self._read_left()
            return False
        over = True
        if not self._pictures.expires:
            over = await self._advance("pictures", self._pictures, self._collect)
        if self._previous is not None:
            move = partial(self._move, self._previous)
            over = await self._advance("previous", self._previous, move) and over
        elif over:
            await self._calls.run(self._client.set(keys.SWEEPING, b"1", px=int(REST_S * 1000)))
        await self._read_left()
        return True

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._pictures.expires and self._previous is None:
            yield
            return
        async with BackgroundTasks() as tasks:
            tasks.keep_running(self._keep_sweeping, "picture-sweep")
            yield

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(PASS_S)
            with suppress(StoreUnavailable):
                await self.run_pass()

    async def _advance(self, name: str, store: PictureStore, process: Any) -> bool:
        """Go on with the round through a store. Returns whether its end is reached."""
        round_ = await self._read_round(name)
        looked = 0
        async for page in store.list_objects(round_.after):
            seen = await process(page)
            looked += len(page)
            if page:
                # A listing without order begins anew; whatever was moved is no longer there.
                round_ = Round(page[-1].name, round_.seen + seen)
                if store.expires:
                    round_ = round_._replace(after="")
            if looked >= OBJECTS_MAX:
                await self._write_round(name, round_)
                return False
        await self._write_round(name, Round(), ended=round_.seen)
        return True

    async def _collect(self, page: Sequence[StoredObject]) -> int:
        """Delete old objects that are not listed. Returns how many are listed."""
        oldest = self._clock() - GRACE_S
        listed = await self._find_listed(page)
        orphans = [each for each in page if each.modified_s < oldest and each not in listed]
        for each in orphans:
            await self._pictures.delete_object(each)
        if orphans:
            log.warning("pictures that nothing refers to were collected", extra={"count": len(orphans)})
            self._on_collected(len(orphans))
        return len(listed)

    async def _move(self, previous: PictureStore, page: Sequence[StoredObject]) -> int:
        """Move images out of the previous store. Returns how many there were."""
        listed = await self._find_listed(page)
        for each in page:
            if each in listed or previous.expires:
                await self._move_image(previous, each, listed.get(each, 0))
            elif each.modified_s < self._clock() - GRACE_S:
                await previous.delete_object(each)
        return len(page)

    async def _move_image(self, previous: PictureStore, stored: StoredObject, left_ms: int) -> None:
        """Copy, check that it was not deleted meanwhile, and delete the original."""
        tenant_id, image_id = stored.tenant_id, stored.image_id
        is_listed = left_ms > 0
        left_ms = left_ms or await previous.get_ttl_ms(tenant_id, image_id)
        try:
            picture = await previous.get(tenant_id, image_id)
        except DamagedPicture:
            await previous.delete(tenant_id, [image_id])
            return
        if picture is None or left_ms <= 0:
            return
        await self._pictures.put(tenant_id, picture, left_ms)
        if not is_listed and await previous.exists(tenant_id, image_id):
            evicted = await self._index.add(tenant_id, [Entry(image_id, picture.length, left_ms)])
            await self._pictures.delete(tenant_id, [each for each in evicted if keys.is_image_id(each)])
        elif not await self._index.find(tenant_id, [image_id]):
            await self._pictures.delete(tenant_id, [image_id])
        await previous.delete(tenant_id, [image_id])

    async def _find_listed(self, page: Sequence[StoredObject]) -> dict[StoredObject, int]:
        """The listed ones of a page, with the milliseconds that are left of each."""
        by_tenant: dict[str, list[StoredObject]] = {}
        for each in page:
            if each.tenant_id:
                by_tenant.setdefault(each.tenant_id, []).append(each)
        listed: dict[StoredObject, int] = {}
        for tenant_id, objects in by_tenant.items():
            left = await self._index.find(tenant_id, [each.image_id for each in objects])
            listed |= {each: left[each.image_id] for each in objects if each.image_id in left}
        return listed

    async def _read_round(self, name: str) -> Round:
        call: Any = self._client.hmget(keys.SWEEP, [f"{name}:after", f"{name}:seen"])
        after, seen = await self._calls.run(call)
        return Round((after or b"").decode(), int(seen or 0))

    async def _write_round(self, name: str, round_: Round, ended: int | None = None) -> None:
        facts: dict[str, str | int] = {f"{name}:after": round_.after, f"{name}:seen": round_.seen}
        if ended is not None:
            facts[f"{name}:ended"] = ended
        writes: Any = self._client.hset(keys.SWEEP, mapping=facts)  # type: ignore[arg-type]
        await self._calls.run(writes)
        await self._calls.run(self._client.expire(keys.SWEEP, REMEMBERED_S))

    async def _read_left(self) -> None:
        if self._previous is None:
            return
        call: Any = self._client.hget(keys.SWEEP, "previous:ended")
        ended = await self._calls.run(call)
        if ended is not None:
            self._left = int(ended)
            self._on_left(self._left)
