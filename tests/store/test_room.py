"""Which pictures are kept out, so that the books go on and no tenant takes everybody's room."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.budget import Amounts
from app.domain.failure import Failure
from app.domain.operation import OperationResult
from app.generation.ports import Failed, Lead
from app.ledger.operations import RedisOperations
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.results.index import Index
from app.results.redis import RedisResults
from app.store.capacity import StoreCapacity
from app.store.client import open_clients
from tests.store.books import Books, generation, picture_of
from tests.store.test_finished import KEPT as FINISHED
from tests.storeserver import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from app.store.client import StoreClients

KB = 1000
_numbers = itertools.count(1)


def capacity(clients: StoreClients) -> StoreCapacity:
    return StoreCapacity(clients.blobs, 0.8)


def kept_by(
    clients: StoreClients,
    within: StoreCapacity | None = None,
    quota: int | None = None,
    picture_bytes_max: int = 10**9,
) -> RedisResults:
    """Results that are kept within a quota, in a store with room."""
    index = Index(clients.blobs, image_bytes_max=picture_bytes_max, quota_of=lambda _tenant: quota)
    return RedisResults(clients.blobs, index=index, capacity=within or capacity(clients))


async def test_a_picture_that_is_too_large_is_not_kept(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, picture_bytes_max=10 * KB)
    assert not await results.put_pictures(tenant, (picture_of(b"x" * (10 * KB + 1)),), 60)
    assert await results.put_pictures(tenant, (picture_of(b"x" * 10 * KB),), 60)


@pytest.mark.parametrize(("policy", "kept_out"), [("noeviction", True), ("volatile-lfu", False)])
async def test_a_store_that_evicts_nothing_keeps_room_for_the_books(
    tmp_path: Path, policy: str, kept_out: bool
) -> None:
    options = ("--maxmemory", "20mb", "--maxmemory-policy", policy, "--appendonly", "no")
    with running_server(tmp_path / "s", *options) as server:
        async with (
            open_clients(server.url, ledger_timeout_s=10) as clients,
            RedisLedger(clients.ledger, LedgerConfig(deadline_s=10)) as ledger,
            capacity(clients) as within,
        ):
            results, books = kept_by(clients, within), Books(ledger, clients.ledger, "acme")
            assert await results.put_pictures("acme", (picture_of(b"first"),), 60)
            for number in range(17):
                await clients.blobs.set(f"filling:{number}", b"x" * 1_000_000, ex=600)
            await within.measure()
            assert within.full is kept_out
            assert within.conditions() == {"store_full": int(kept_out)}
            refused = not await results.put_pictures("acme", (picture_of(b"second"),), 60)
            assert refused is kept_out
            assert isinstance(await books.admit("a"), Lead)
            assert (await books.settle("a")).state == "settled"
            await clients.blobs.delete(*[f"filling:{number}" for number in range(10)])
            await within.measure()
            assert await results.put_pictures("acme", (picture_of(b"third"),), 60)


LARGE = "x" * 900_000
"""As a thought signature may be."""


async def keep_generations(clients: StoreClients, books: Books, within: StoreCapacity) -> bool:
    results, number = kept_by(clients, within), next(_numbers)
    whole = replace(FINISHED.generation, id=f"gen_{number:024x}", verbatim=LARGE)
    return await results.put_generation(books.tenant, replace(FINISHED, generation=whole), 60)


async def keep_pictures(clients: StoreClients, books: Books, within: StoreCapacity) -> bool:
    data = next(_numbers).to_bytes(4, "big") * 225_000
    return await kept_by(clients, within).put_pictures(books.tenant, (picture_of(data),), 60)


async def publish(clients: StoreClients, books: Books, within: StoreCapacity) -> bool:
    hold = f"hold-{next(_numbers)}"
    await books.admit(hold)
    result = replace(generation(hold), verbatim=LARGE)
    return (await books.settle(hold, amounts=Amounts(), publish=result)).published


async def fail(clients: StoreClients, books: Books, within: StoreCapacity) -> bool:
    hold = f"hold-{next(_numbers)}"
    await books.admit(hold)
    said = Failure("model_refused", "No.", final=True, verbatim=LARGE)
    await books.settle(hold, amounts=Amounts(), failure=said)
    told = await books.admit(f"{hold}-after", books.fingerprints[hold], following=hold)
    assert isinstance(told, Failed)
    return told.failure.verbatim != ""


async def answer(clients: StoreClients, books: Books, within: StoreCapacity) -> bool:
    operations = RedisOperations(clients.ledger, lease_s=60, deadline_s=10, capacity=within)
    operation_id = f"op_{next(_numbers):024x}"
    await operations.begin(books.tenant, operation_id, "me", "work")
    assert await operations.finish(
        books.tenant, operation_id, "me", "done", LARGE, OperationResult("gen_1", None)
    )
    found = await operations.read(books.tenant, operation_id)
    assert found is not None
    assert (found.state, found.result) == ("done", OperationResult("gen_1", None))
    return found.text != ""


@pytest.mark.parametrize("keep", [keep_generations, keep_pictures, publish, fail, answer])
async def test_whatever_is_kept_leaves_room_for_the_books(tmp_path: Path, keep: Any) -> None:
    """All of it within a second, so that nobody has looked how full the store is in between."""
    limit = 20_000_000
    options = ("--maxmemory", str(limit), "--maxmemory-policy", "noeviction", "--appendonly", "no")
    with running_server(tmp_path / "s", *options) as server:
        async with open_clients(server.url, ledger_timeout_s=10) as clients:
            within = capacity(clients)
            await within.measure()
            async with RedisLedger(clients.ledger, LedgerConfig(deadline_s=10), within) as ledger:
                books = Books(ledger, clients.ledger, "acme", budgets=())
                kept = [await keep(clients, books, within) for _ in range(40)]
                assert kept[:8] == [True] * 8
                assert kept[-10:] == [False] * 10
                assert (await clients.ledger.info("memory"))["used_memory"] < limit * 0.85
                assert within.conditions() == {"store_full": 1}
                assert isinstance(await books.admit("a"), Lead), "no tenant is refused for it"
                for name in [name async for name in clients.ledger.scan_iter("fg:*")]:
                    if await clients.ledger.pttl(name) > 0:
                        await clients.ledger.delete(name)
                await within.measure()
                await within.measure()
                assert await keep(clients, books, within)
                assert within.conditions() == {"store_full": 0}
