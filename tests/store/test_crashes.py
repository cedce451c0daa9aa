"""Spenders that are killed at any moment: never beyond the limit, nothing lost, nothing counted twice.

A process that has imported everything forks the spenders, so that a killed one is replaced at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.verifying import read_snapshot
from tests.store.books import DAY, Books, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

ROOT = Path(__file__).parents[2]
LIMIT = 5_000
LEASE_S = 0.2
SPENDERS = 4
SECONDS = 3.0
SEED = 20_261_122

FORKER = textwrap.dedent(
    """
    import asyncio, itertools, os, random, signal, sys
    from dataclasses import replace
    from app.domain.budget import Amounts
    from app.domain.errors import InternalError, StoreUnavailable
    from app.generation.ports import Lead
    from app.store.client import open_clients
    from app.ledger.policy import LedgerConfig
    from app.ledger.redis import RedisLedger
    from tests.store.books import DAY, Books

    url, tenant, limit, lease_s = sys.argv[1:]

    async def spend() -> None:
        chance = random.Random(os.getpid())
        policy = LedgerConfig(lease_s=float(lease_s), deadline_s=10)
        async with open_clients(url, ledger_timeout_s=5) as clients:
            ledger = RedisLedger(clients.ledger, policy)
            books = Books(ledger, clients.ledger, tenant, (replace(DAY, limit=int(limit)),))
            for number in itertools.count():
                hold, estimate = f"{os.getpid()}-{number}", chance.randrange(1, 400)
                amounts = Amounts(estimate, estimate, 1, estimate)
                if not isinstance(await books.admit(hold, amounts=amounts), Lead):
                    continue
                if chance.random() < 0.8 and not await books.dispatch(hold):
                    continue
                if chance.random() < 0.1:
                    continue  # forgotten: its lease will run out
                used = chance.randrange(estimate // 4 + 2)
                outcome = chance.choice(["settle", "settle", "settle", "void"])
                await books.settle(hold, Amounts(used, used, 1, used), outcome)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(spend())
        print(pid, flush=True)
    """
)


@asynccontextmanager
async def forker(server: ServerProcess, tenant: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FORKER, server.url, tenant, str(LIMIT), str(LEASE_S)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def spender(process: asyncio.subprocess.Process) -> int:
    """The process id of a new spender."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    async with asyncio.timeout(60):
        return int(await process.stdout.readline())


async def test_spenders_that_are_killed_at_random_leave_exact_books(
    server: ServerProcess, clients: StoreClients, tenant: str
) -> None:
    ledger = RedisLedger(clients.ledger, LedgerConfig(lease_s=LEASE_S, deadline_s=10))
    books = Books(ledger, clients.ledger, tenant, (replace(DAY, limit=LIMIT),))
    chance = random.Random(SEED)
    samples = kills = 0
    async with forker(server, tenant) as process:
        pids = [await spender(process) for _ in range(SPENDERS)]
        try:
            end = time.monotonic() + SECONDS
            kill_at = time.monotonic() + 0.1
            while time.monotonic() < end:
                settled, held, over = await read(books)
                assert settled + held <= LIMIT + over
                samples += 1
                if time.monotonic() > kill_at:
                    os.kill(pids.pop(chance.randrange(SPENDERS)), signal.SIGKILL)
                    pids.append(await spender(process))
                    kills += 1
                    kill_at = time.monotonic() + chance.random() * 0.1
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def quiet() -> bool:
        return (await books.totals())[0][1] == 0

    await until(quiet, 20)
    holds = (await read_snapshot(books.client, books.tenant)).holds
    booked = sum(hold.booked.image_tokens for hold in holds)
    assert await read(books) == (booked, 0, (await read(books))[2])
    assert booked > LIMIT / 2, "the limit was felt"
    assert kills > 5
    assert samples > 50
    states = {hold.state for hold in holds}
    assert {"settled", "voided", "expired", "charged"} <= states, "each end has happened"
    assert await books.client.zcard(books.key("exp")) == 0


async def read(books: Books) -> tuple[int, int, int]:
    """Settled, held and overage of the one window, at one moment."""
    counters = await books.client.hgetall(books.key("win"))
    found = {name[-1]: int(value) for name, value in counters.items() if name[0] != "!"}
    return found.get("s", 0), found.get("h", 0), found.get("o", 0)
