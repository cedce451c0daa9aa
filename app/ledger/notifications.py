"""Wakes requests that wait for a leader: one subscription for the process, however many wait.

A notification is only a hint. It may be lost or come early; the ledger polls as well, and the next admission
tells what really happened.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from app.resilience.deadlines import time_limit
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks
from app.store.client import FailureLog
from app.store.keys import WAKE_CHANNEL
from app.store.topologies import describe_address, discover_nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

REMEMBERED = 4096
"""Notifications kept for requests that begin to wait just after one came."""

RESUBSCRIBE_S = 0.5
LOST = "!lost;"
"""What a message begins with that is about a tenant's lost ledger; no hold's name does."""
KNOWN = "!known;"
"""What a message begins with that names a tenant and the epoch of its ledger."""


class Notifications(Resource):
    """The requests that wait, by hold. Use as ``async with``.

    Attributes:
        listening: Set while the subscription is alive.
        refusal: The store's error where it does not let this process subscribe, else None.
        woken: The number of messages received.
        lost_tenants: Tenants whose ledger another replica found lost, until somebody takes them; "" for all.
        epochs: By tenant, those of ledgers that others have begun to use, until somebody takes them.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.listening = asyncio.Event()
        self.refusal: Exception | None = None
        self.woken = 0
        self.lost_tenants: set[str] = set()
        self.epochs: dict[str, str] = {}

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with BackgroundTasks() as tasks:
            tasks.keep_running(self._listen, "store-wake")
            yield

    async def wait(self, hold_id: str, timeout_s: float) -> bool:
        """Whether this hold's end was announced, now or within the timeout."""
        if hold_id in self._recent:
            return True
        event = asyncio.Event()
        self._waiting.setdefault(hold_id, set()).add(event)
        try:
            async with time_limit(timeout_s):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            waiters = self._waiting.get(hold_id)
            if waiters is not None:
                waiters.discard(event)
                if not waiters:
                    del self._waiting[hold_id]
        return True

    def _announce(self, hold_id: str) -> None:
        self.woken += 1
        if hold_id.startswith(LOST):
            self.lost_tenants.add(hold_id.removeprefix(LOST))
            return
        if hold_id.startswith(KNOWN):
            tenant_id, _, epoch = hold_id.removeprefix(KNOWN).partition(";")
            self.epochs[tenant_id] = epoch
            return
        self._recent[hold_id] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        for event in self._waiting.get(hold_id, ()):
            event.set()

    def _wake_all(self) -> None:
        """Wake everybody after a gap in the subscription, in which any message may have been missed."""
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def _listen(self) -> None:
        failures = FailureLog("wake-ups", describe_address(self._client))
        while True:
            try:
                await self._subscribe()
            except Exception as error:  # noqa: BLE001 - whatever the client raises, listening goes on
                # The waiters' own polling bridges the gap until the store is back.
                if self.listening.is_set():
                    failures.over()
                failures.failed(error)
                self.refusal = error if isinstance(error, ResponseError) else None
            finally:
                self.listening.clear()
            await asyncio.sleep(RESUBSCRIBE_S)

    async def _subscribe(self) -> None:
        await discover_nodes(self._client)
        pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(WAKE_CHANNEL)
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self.refusal = None
                    self.listening.set()
                    self._wake_all()
                elif message["type"] == "message":
                    self._announce(str(message["data"]))
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
