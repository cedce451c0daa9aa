"""Which pictures are kept out, so that the books go on and no tenant takes everybody's room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.generation.ports import Lead
from app.ledger.policy import LedgerPolicy
from app.ledger.redis import RedisLedger
from app.results.quota import Room
from app.results.redis import RedisResults
from app.store import keys
from app.store.client import open_clients
from tests.store.books import Books, picture_of
from tests.store.test_discipline import commands
from tests.storeserver import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from app.store.client import StoreClients

KB = 1000


def room(clients: StoreClients, quota: int | None = None, picture_bytes_max: int = 10**9) -> Room:
    return Room(
        clients.blobs, picture_bytes_max=picture_bytes_max, full_share=0.8, quota_of=lambda _tenant: quota
    )


def kept_by(clients: StoreClients, within: Room) -> RedisResults:
    return RedisResults(clients.blobs, room=within)


async def there(clients: StoreClients, tenant: str) -> set[str]:
    """The images that lie in the store."""
    found = clients.ledger.scan_iter(f"fg:{{{tenant}}}:img:*")
    return {name.rpartition(":")[2] async for name in found}


async def taken(clients: StoreClients, tenant: str) -> float:
    """What the quota counts, in bytes."""
    return -float(await clients.ledger.zscore(keys.kept_key(tenant), "#") or 0)


async def test_a_picture_that_is_too_large_is_not_kept(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, picture_bytes_max=10 * KB))
    assert not await results.put_pictures(tenant, (picture_of(b"x" * (10 * KB + 1)),), 60)
    assert await results.put_pictures(tenant, (picture_of(b"x" * 10 * KB),), 60)


async def test_within_a_quota_those_that_would_expire_first_go(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, quota=10 * KB))
    pictures = [picture_of(bytes([number]) * 3 * KB) for number in range(5)]
    for number, picture in enumerate(pictures):
        assert await results.put_pictures(tenant, (picture,), 1000 * (number + 1))
        assert await taken(clients, tenant) <= 10 * KB
    assert await there(clients, tenant) == {picture.id for picture in pictures[2:]}
    assert await taken(clients, tenant) == 9 * KB
    assert await clients.ledger.pttl(keys.kept_key(tenant)) > 4000 * 1000


async def test_a_picture_that_is_kept_again_counts_once(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, quota=10 * KB))
    first, second = (picture_of(mark * 4 * KB) for mark in (b"a", b"b"))
    for picture in (first, second, first, first):
        assert await results.put_pictures(tenant, (picture,), 60)
    assert await taken(clients, tenant) == 8 * KB
    assert await there(clients, tenant) == {first.id, second.id}


async def test_what_has_expired_takes_no_room(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, quota=10 * KB))
    gone, other, late = (picture_of(mark * 4 * KB) for mark in (b"a", b"b", b"c"))
    assert await results.put_pictures(tenant, (gone, other), 60)
    await clients.ledger.zadd(keys.kept_key(tenant), {f"{gone.id};{gone.length}": 1})
    assert await results.put_pictures(tenant, (late,), 60)
    assert await taken(clients, tenant) == 8 * KB
    assert other.id in await there(clients, tenant)


async def test_a_picture_larger_than_the_quota_displaces_nothing(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, quota=10 * KB))
    small = picture_of(b"s" * 4 * KB)
    assert await results.put_pictures(tenant, (small,), 60)
    assert not await results.put_pictures(tenant, (picture_of(b"l" * 11 * KB),), 60)
    assert await there(clients, tenant) == {small.id}


async def test_a_quota_that_the_store_has_forgotten_counts_anew(clients: StoreClients, tenant: str) -> None:
    results = kept_by(clients, room(clients, quota=10 * KB))
    assert await results.put_pictures(tenant, (picture_of(b"a" * 9 * KB),), 60)
    await clients.ledger.delete(keys.kept_key(tenant))
    assert await results.put_pictures(tenant, (picture_of(b"b" * 9 * KB),), 60)
    assert await taken(clients, tenant) == 9 * KB


@pytest.mark.parametrize(("quota", "sent"), [(None, ["SET"]), (10 * KB, ["EVAL", "SET"])])
async def test_a_quota_costs_one_command(
    clients: StoreClients, tenant: str, quota: int | None, sent: list[str]
) -> None:
    results = kept_by(clients, room(clients, quota))
    await results.get_picture(tenant, picture_of(b"warm").id)
    found, _inside = await commands(clients, results.put_pictures(tenant, (picture_of(b"x"),), 60))
    assert found == sent


@pytest.mark.parametrize(("policy", "kept_out"), [("noeviction", True), ("volatile-lfu", False)])
async def test_a_store_that_evicts_nothing_keeps_room_for_the_books(
    tmp_path: Path, policy: str, kept_out: bool
) -> None:
    options = ("--maxmemory", "20mb", "--maxmemory-policy", policy, "--appendonly", "no")
    with running_server(tmp_path / "s", *options) as server:
        async with (
            open_clients(server.url, ledger_timeout_s=10) as clients,
            RedisLedger(clients.ledger, LedgerPolicy(deadline_s=10)) as ledger,
            room(clients) as within,
        ):
            results, books = kept_by(clients, within), Books(ledger, clients.ledger, "acme")
            assert await results.put_pictures("acme", (picture_of(b"first"),), 60)
            for number in range(17):
                await clients.blobs.set(f"filling:{number}", b"x" * 1_000_000, ex=600)
            await within.look()
            assert within.full is kept_out
            assert within.conditions() == {"store_full": int(kept_out)}
            refused = not await results.put_pictures("acme", (picture_of(b"second"),), 60)
            assert refused is kept_out
            assert isinstance(await books.admit("a"), Lead)
            assert (await books.settle("a")).state == "settled"
            await clients.blobs.delete(*[f"filling:{number}" for number in range(10)])
            await within.look()
            assert await results.put_pictures("acme", (picture_of(b"third"),), 60)
