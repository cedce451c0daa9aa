"""Pictures come back byte for byte, to their own tenant, or not at all."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.errors import StoreUnavailable
from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture
from app.results.redis import RedisResults
from app.store import keys
from app.store.client import open_clients

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.store.client import StoreClients


def picture(data: bytes) -> Picture:
    return Picture(f"img_{compute_digest(data)}", "image/jpeg", 1024, 768, data)


@pytest.mark.parametrize("length", [0, 1, 1000, 999_999, 1_000_001, 5_000_000])
async def test_a_picture_comes_back_byte_for_byte(clients: StoreClients, tenant: str, length: int) -> None:
    results = RedisResults(clients.blobs)
    kept = picture(bytes(range(256)) * (length // 256) + b"\r\n" * (length % 256 // 2))
    assert await results.put_pictures(tenant, (kept, picture(b"second")), 60)
    assert await results.get_picture(tenant, kept.id) == kept
    assert await results.get_picture(tenant, picture(b"second").id) == picture(b"second")
    assert results.damaged == 0


async def test_a_picture_lives_as_long_as_asked_and_up_to_a_tenth_longer(
    clients: StoreClients, tenant: str
) -> None:
    results = RedisResults(clients.blobs)
    lives = []
    for number in range(20):
        kept = picture(bytes([number]))
        await results.put_pictures(tenant, (kept,), 1000)
        lives.append(await clients.blobs.pttl(keys.image_key(tenant, kept.id)))
    assert all(999_000 <= life <= 1_100_000 for life in lives)
    assert len(set(lives)) > 10, "and they do not all end at once"


async def test_a_picture_that_may_not_live_is_not_kept(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    assert not await results.put_pictures(tenant, (picture(b"x"),), 0)
    assert await results.get_picture(tenant, picture(b"x").id) is None


@pytest.mark.parametrize(
    "image_id", ["", "img_", "img_" + "0" * 63, "img_" + "G" * 64, "img_" + "0" * 64 + "\n", "../x", "img_*"]
)
async def test_what_is_no_image_id_never_reaches_the_store(image_id: str) -> None:
    async with open_clients("unix:///nowhere/at-all.sock") as clients:
        assert await RedisResults(clients.blobs).get_picture("tenant", image_id) is None


async def test_an_unknown_picture_is_none(clients: StoreClients, tenant: str) -> None:
    assert await RedisResults(clients.blobs).get_picture(tenant, "img_" + "0" * 64) is None


async def test_another_tenant_does_not_find_it(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    await results.put_pictures(tenant, (picture(b"mine"),), 60)
    assert await results.get_picture(f"{tenant}-b", picture(b"mine").id) is None
    assert results.damaged == 0


async def test_a_value_that_was_moved_to_another_tenant_is_deleted_and_not_served(
    clients: StoreClients, tenant: str
) -> None:
    counted: list[None] = []
    results = RedisResults(clients.blobs, lambda: counted.append(None))
    kept = picture(b"mine")
    await results.put_pictures(tenant, (kept,), 60)
    foreign = keys.image_key(f"{tenant}-b", kept.id)
    await clients.blobs.copy(keys.image_key(tenant, kept.id), foreign)
    assert await results.get_picture(f"{tenant}-b", kept.id) is None
    assert not await clients.blobs.exists(foreign)
    assert (results.damaged, len(counted)) == (1, 1)
    assert await results.get_picture(tenant, kept.id) == kept


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit in the image": lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    "a flipped bit in the magic": lambda value: bytes([value[0] ^ 1]) + value[1:],
    "another version": lambda value: b"FGI9" + value[4:],
    "a cut end": lambda value: value[:-1],
    "something behind": lambda value: value + b"x",
    "half a header": lambda value: value[:10],
    "nothing": lambda _value: b"",
    "another length of the tenant": lambda value: value[:4] + bytes([value[4] + 1]) + value[5:],
    "no text as the tenant": lambda value: value[:30] + b"\xff" * 8 + value[38:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("length", [100, 1_200_000])
async def test_damage_is_noticed_deleted_counted_and_never_served(
    clients: StoreClients, tenant: str, damage: Callable[[bytes], bytes], length: int
) -> None:
    results = RedisResults(clients.blobs)
    kept = picture(b"p" * length)
    await results.put_pictures(tenant, (kept,), 60)
    key = keys.image_key(tenant, kept.id)
    value = await clients.blobs.get(key)
    assert isinstance(value, bytes)
    await clients.blobs.set(key, damage(value), ex=60)
    assert await results.get_picture(tenant, kept.id) is None
    assert not await clients.blobs.exists(key)
    assert results.damaged == 1


async def test_a_store_that_is_away_keeps_nothing_and_says_so() -> None:
    async with open_clients("unix:///nowhere/at-all.sock") as clients:
        results = RedisResults(clients.blobs)
        assert not await results.put_pictures("tenant", (picture(b"x"),), 60)
        with pytest.raises(StoreUnavailable):
            await results.get_picture("tenant", picture(b"x").id)


async def test_writing_a_large_picture_holds_no_second_copy_of_it(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    kept = picture(b"p" * 20_000_000)
    await results.put_pictures(tenant, (picture(b"warm"),), 60)
    tracemalloc.start()
    try:
        assert await results.put_pictures(tenant, (kept,), 60)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.1 * kept.length


async def test_one_picture_is_one_command(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    await clients.ledger.config_resetstat()
    await results.put_pictures(tenant, (picture(b"a"), picture(b"b")), 60)
    await results.get_picture(tenant, picture(b"a").id)
    stats: dict[str, Any] = await clients.ledger.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
    assert {name: counts[name] for name in ("set", "get")} == {"set": 2, "get": 1}


def test_a_header_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no image id"):
        keys.image_key("tenant", replace(picture(b"x"), id="img_x").id)
    with pytest.raises(ValueError, match="no tenant id"):
        keys.image_key("Tenant}", picture(b"x").id)
