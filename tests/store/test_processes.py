"""Several processes spend from one budget at once: exactly what fits is admitted, whoever dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from tests.store.books import DAY, Books

if TYPE_CHECKING:
    from tests.storeserver import ServerProcess

ROOT = Path(__file__).parents[2]

CALLERS = textwrap.dedent(
    """
    import asyncio, sys
    from dataclasses import replace
    from app.generation.ports import Lead
    from app.store.client import open_clients
    from app.ledger.policy import LedgerConfig
    from app.ledger.redis import RedisLedger
    from tests.store.books import DAY, Books

    async def main() -> None:
        url, tenant, name, count, limit = sys.argv[1:]
        async with open_clients(url, ledger_timeout_s=20) as clients, RedisLedger(
            clients.ledger, LedgerConfig(deadline_s=30)
        ) as ledger:
            books = Books(ledger, clients.ledger, tenant, (replace(DAY, limit=int(limit)),))
            print("ready", flush=True)
            sys.stdin.readline()
            answers = await asyncio.gather(*[books.admit(f"{name}-{n}") for n in range(int(count))])
            print(sum(isinstance(answer, Lead) for answer in answers), flush=True)
            sys.stdin.readline()

    asyncio.run(main())
    """
)


async def test_two_hundred_at_once_from_four_processes_get_exactly_what_fits(
    server: ServerProcess, books: Books
) -> None:
    """Processes that died while holding give back what they held, and only that."""
    limit = 37 * 1120
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CALLERS, server.url, books.tenant, f"p{n}", "50", str(limit)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(4)
    ]
    try:
        async with asyncio.timeout(60):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"\n")
            leads = [int(await process.stdout.readline()) for process in processes if process.stdout]
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    assert sum(leads) == 37
    mine = books.limited(limit)
    assert await mine.totals() == [(0, limit)]
    assert DAY.limit != limit
    holds = await books.client.zrange(books.key("exp"), 0, -1)
    assert len(holds) == 37
    await books.client.zadd(books.key("exp"), dict.fromkeys(holds, 1))
    assert await mine.totals() == [(0, 0)]
