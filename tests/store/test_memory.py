"""What the ledger keeps of a hold that has ended, in memory that may not be evicted."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from app.domain.budget import Amounts, Budget
from app.store import keys
from tests.store.books import Books

if TYPE_CHECKING:
    from app.store.client import StoreClients

HOLDS = 1500
EST = Amounts(1120, 2321, 1, 68_123_000, 1530)


@pytest.mark.parametrize(("ending", "bytes_max"), [("settled", 400), ("voided", 400), ("refused", 1)])
async def test_a_hold_that_has_ended_takes_at_most_four_hundred_bytes(
    books: Books, clients: StoreClients, ending: str, bytes_max: int
) -> None:
    budgets = (
        Budget("image_tokens", "day", 10**12),
        Budget("images", "month", 10**9),
        Budget("usd", "lifetime", 10**15),
    )
    busy = Books(books.ledger, books.client, books.tenant, budgets)
    for _ in range(HOLDS):
        hold = secrets.token_hex(12)
        amounts = EST._replace(images=10**9 + 1) if ending == "refused" else EST
        await busy.admit(hold, secrets.token_hex(32), amounts=amounts)
        if ending == "voided":
            await busy.settle(hold, outcome="void")
        elif ending == "settled":
            await busy.dispatch(hold)
            await busy.settle(hold, EST._replace(total_tokens=2102, usd=67_456_000, all_output_tokens=1311))
    used = [await clients.ledger.memory_usage(name, samples=0) for name in keys.ledger_keys(busy.tenant)]
    assert sum(size or 0 for size in used) / HOLDS <= bytes_max
