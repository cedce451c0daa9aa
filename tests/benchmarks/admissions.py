"""The store's own time for an admission: by windows, by open holds, and by how many tenants there are.

The time is the server's, of the script alone (INFO commandstats), so that neither the client nor the network
is in it. Rounds of all rows take turns, because a busy machine slows whole seconds down.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from app.domain.budget import WINDOWS, Budget
from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from app.domain.tenancy import Key, Tenant
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store.client import open_clients
from app.tenants.directory import MemoryDirectory
from tests.benchmarks.table import Table
from tests.store.books import ZONE, Books, windows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.generation.ports import AdmissionRequest
    from app.store.client import StoreClients

BATCH = 200
ENDLESS = 10**15
FOUR = tuple(Budget("image_tokens", window, ENDLESS) for window in WINDOWS[1:5])
POLICY = LedgerConfig(lease_s=3600, deadline_s=30)


class Wide(Books):
    """Books in which every request is counted in a tenant's, a project's and a key's windows."""

    owners: tuple[str, ...] = ("t",)

    def asked(self, hold: str) -> AdmissionRequest:
        """An admission in each owner's windows."""
        request = self.request(hold)
        found = tuple(window for owner in self.owners for window in windows(*self.budgets, owner=owner))
        return type(request)(
            request.tenant_id, hold, request.fingerprint, found, request.amounts, request.cache
        )


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[StoreClients, RedisLedger]]:
    """A patient ledger."""
    async with (
        open_clients(url, ledger_timeout_s=30) as clients,
        RedisLedger(clients.ledger, POLICY) as found,
    ):
        yield clients, found


async def server_us(clients: StoreClients) -> tuple[int, float]:
    """Scripts run so far, and the server's microseconds for them."""
    found: Any = await clients.ledger.info("commandstats")
    stats = found.get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return int(stats["calls"]), float(stats["usec"])


async def cost(clients: StoreClients, books: Wide) -> float:
    """Server's microseconds for one admission; the holds that were made are voided again."""
    holds = [secrets.token_hex(8) for _ in range(BATCH)]
    calls, before = await server_us(clients)
    for hold in holds:
        await books.ledger.admit(books.asked(hold))
    now, after = await server_us(clients)
    assert now - calls == BATCH
    for hold in holds:
        await books.settle(hold, outcome="void")
    return (after - before) / BATCH


async def fill(books: Wide, holds: int) -> None:
    """Open so many holds that nobody ends."""
    for number in range(holds):
        await books.ledger.admit(books.asked(f"open-{number}"))


async def admissions(url: str, open_holds: tuple[int, ...], rounds: int) -> list[Table]:
    """By windows with few open holds, then by open holds in four windows."""
    async with opened(url) as (clients, ledger):
        cases: dict[str, Wide] = {}
        for count, owners in ((1, ("t",)), (4, ("t",)), (12, ("t", "p:web", "k:k1"))):
            cases[f"{count} windows"] = Wide(
                ledger, clients.ledger, f"windows-{count}", FOUR[: min(count, 4)]
            )
            cases[f"{count} windows"].owners = owners
        by_holds = {}
        for count in open_holds:
            by_holds[f"{count} open holds"] = Wide(ledger, clients.ledger, f"holds-{count}", FOUR)
            await fill(by_holds[f"{count} open holds"], count)
        rows: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, books in {**cases, **by_holds}.items():
                rows[name].append(await cost(clients, books))
        title = "An admission, by the store's own clock"
        return [
            Table(f"{title}, by windows", "µs", {name: tuple(rows[name]) for name in cases}),
            Table(f"{title}, by holds that are open", "µs", {name: tuple(rows[name]) for name in by_holds}),
        ]


async def tenants(urls: dict[int, str], rounds: int) -> Table:
    """An admission beside the books of so many tenants, each number in a store of its own."""
    rows: defaultdict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        found = {}
        for count, url in urls.items():
            clients, ledger = await stack.enter_async_context(opened(url))
            await inhabit(clients, count)
            found[f"{count} tenants"] = (clients, Wide(ledger, clients.ledger, "one", FOUR))
        for _ in range(rounds):
            for name, (clients, books) in found.items():
                rows[name].append(await cost(clients, books))
    title = "An admission, by the store's own clock, by tenants"
    return Table(title, "µs", {name: tuple(costs) for name, costs in rows.items()})


async def inhabit(clients: StoreClients, count: int) -> None:
    """Give so many tenants a window each."""
    for begin in range(0, count, 1000):
        pipeline = clients.ledger.pipeline(transaction=False)
        for number in range(begin, min(begin + 1000, count)):
            pipeline.hset(f"fg:{{other-{number}}}:win", "t|output_tokens|day|0:s", "1")
        await pipeline.execute()


def many_keys(count: int) -> tuple[MemoryDirectory, str]:
    """A directory of so many tenants with a key each, and one of the keys."""
    pepper = b"a pepper"
    shown = mint("bench", secrets.token_bytes(ENTROPY_BYTES))
    keys = [Key(shown.key_id, hash_secret(pepper, shown.secret), frozenset({"images"}))]
    keys += [Key(f"k{number}", "0" * 64, frozenset({"images"})) for number in range(count - 1)]
    found = tuple(Tenant(f"t-{number}", ZONE, (), (key,)) for number, key in enumerate(keys))
    return MemoryDirectory(found, pepper), shown.text
