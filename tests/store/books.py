"""A tenant's books in the hands of a test: the ledger's calls with everything usual filled in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from app.domain.budget import NOTHING, Amounts, Budget, BudgetWindow, build_window
from app.domain.fingerprint import compute_digest
from app.domain.generation import Generation, Picture, Usage
from app.domain.request import CacheDirective
from app.generation.ports import Admission, AdmissionRequest, Settled, Settlement
from app.store import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.domain.bound import Bound, Tail
    from app.domain.failure import Failure
    from app.domain.report import Spent
    from app.domain.request import CacheMode
    from app.ledger.redis import RedisLedger

ZONE = ZoneInfo("Europe/Berlin")
DAY_MS = 86_400_000
ONE = Amounts(1120, 2000, 1, 67_200_000, 1250)
DAY = Budget("image_tokens", "day", 10 * 1120)

T = TypeVar("T")


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def windows(*budgets: Budget, at_ms: int | None = None, owner: str = "t") -> tuple[BudgetWindow, ...]:
    """Windows of these budgets around a moment, by default now."""
    moment = now_ms() if at_ms is None else at_ms
    return tuple(build_window(budget, owner, ZONE, moment) for budget in budgets)


def generation(hold: str, text: str = "here") -> Generation:
    """A finished result without pictures."""
    return Generation(f"gen_{hold}", "m", "m-001", 0, (), text, "STOP", Usage(image_output=1120))


def picture_of(data: bytes) -> Picture:
    """A picture of these bytes."""
    return Picture(f"img_{compute_digest(data)}", "image/png", 1, 1, data)


async def let_lease_end(client: Any, tenant: str, operation_id: str) -> None:
    """The process that carries an operation has not been heard of, by the store's clock."""
    running = keys.operation_keys(tenant, operation_id)[0]
    fields = (await client.hget(running, operation_id)).split(";")
    await client.hset(running, operation_id, ";".join([*fields[:4], "1", *fields[5:]]))


async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = 5.0) -> T:
    """The condition's first true value; fails where none comes in time."""
    async with asyncio.timeout(timeout_s):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.005)


@dataclass
class Books:
    """Short forms of the ledger's calls for one tenant."""

    ledger: RedisLedger
    client: Any  # a Redis client; its stubs give every reply the union of all replies
    tenant: str
    budgets: tuple[Budget, ...] = (DAY,)
    amounts: Amounts = ONE
    bounds: tuple[Bound, ...] = ()
    tail: Tail = "serve_one"
    fingerprints: dict[str, str] = field(default_factory=dict)

    @property
    def windows(self) -> tuple[BudgetWindow, ...]:
        return windows(*self.budgets)

    def request(
        self,
        hold: str,
        fingerprint: str | None = None,
        *,
        mode: CacheMode = "use",
        max_age_s: int | None = None,
        following: str | None = None,
        amounts: Amounts | None = None,
    ) -> AdmissionRequest:
        work = fingerprint or f"work-{hold}"
        self.fingerprints.setdefault(hold, work)
        return AdmissionRequest(
            self.tenant,
            hold,
            work,
            self.windows,
            self.amounts if amounts is None else amounts,
            CacheDirective(mode, max_age_s),
            following,
            bounds=self.bounds,
            tail=self.tail,
        )

    async def admit(self, hold: str, fingerprint: str | None = None, **options: Any) -> Admission:
        return await self.ledger.admit(self.request(hold, fingerprint, **options))

    async def dispatch(self, hold: str) -> bool:
        return await self.ledger.dispatch(self.tenant, hold, self.fingerprints[hold])

    async def settle(
        self,
        hold: str,
        amounts: Amounts | None = None,
        outcome: Literal["settle", "void", "charge"] = "settle",
        *,
        publish: Generation | None = None,
        failure: Failure | None = None,
        unresolved: Amounts = NOTHING,
        spent: Spent | None = None,
    ) -> Settled:
        settlement = Settlement(
            self.tenant,
            hold,
            self.fingerprints[hold],
            outcome,
            self.amounts if amounts is None else amounts,
            publish,
            60 if publish else 0,
            failure,
            unresolved=unresolved,
            spent=spent,
        )
        return await self.ledger.settle(settlement, self.windows)

    async def publish(self, hold: str, text: str = "here") -> Settled:
        return await self.settle(hold, publish=generation(hold, text))

    async def totals(self) -> list[tuple[int, int]]:
        """Settled and held of each window."""
        return [(w.settled, w.held) for w in await self.ledger.get_windows(self.tenant, self.windows)]

    async def overage(self) -> int:
        """The first window's recorded overage."""
        found = await self.client.hgetall(self.key("win"))
        return sum(int(value) for name, value in found.items() if name.endswith(":o"))

    async def expire(self, *holds: str) -> None:
        """Let these holds' leases be over by the store's clock, as after a crash and half a minute."""
        for hold in holds:
            assert await self.client.zadd(self.key("exp"), {hold: 1}, xx=True, ch=True) == 1
            work = self.fingerprints[hold]
            if await self.leader(work) == hold:
                await self.client.hdel(self.key("lead"), work)

    async def leader(self, fingerprint: str) -> str | None:
        """The hold that is written down as the leader of this work, or as the one that failed last."""
        found = await self.client.hget(self.key("lead"), fingerprint)
        return None if found is None else found.partition(";")[0].removeprefix("!")

    def key(self, name: str) -> str:
        return keys.ledger_keys(self.tenant)[keys.LEDGER_NAMES.index(name)]

    def limited(self, limit: int) -> Books:
        """The same books after an operator changed the first limit."""
        return replace(self, budgets=(replace(self.budgets[0], limit=limit), *self.budgets[1:]))

    async def dump(self) -> dict[str, bytes]:
        """Everything of this tenant, byte for byte, in the order of names."""
        names = sorted([name async for name in self.client.scan_iter(f"fg:{{{self.tenant}}}:*")])
        names = [name for name in names if ":img:" not in name]
        return {name: await self._dumped(name) for name in names}

    async def _dumped(self, name: str) -> bytes:
        kind = await self.client.type(name)
        if kind == "hash":
            found: Any = sorted((await self.client.hgetall(name)).items())
        elif kind == "zset":
            found = await self.client.zrange(name, 0, -1, withscores=True)
        elif kind == "stream":
            found = await self.client.xrange(name)
        else:
            found = await self.client.get(name)
        return repr(found).encode()
