"""What is stored of a tenant, wherever the bytes are: listed, within a quota, damaged, shared, deleted."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.pictures.folder import FilePictures
from app.pictures.redis import RedisPictures
from app.results.index import Index
from app.results.redis import RedisResults
from app.store import keys
from tests.pictures.test_contract import picture
from tests.store.test_discipline import commands
from tests.store.test_finished import KEPT as FINISHED

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.generation import Picture
    from app.pictures.ports import PictureStore
    from app.store.client import StoreClients

KIB = 1024


def open_results(
    clients: StoreClients, pictures: PictureStore, quota: int | None = None, **more: Any
) -> RedisResults:
    index = Index(clients.blobs, quota_of=lambda _tenant: quota)
    return RedisResults(clients.blobs, index=index, pictures=pictures, **more)


async def keep(
    results: RedisResults, tenant: str, *pictures: Picture, ttl_s: int = 60, number: int = 1
) -> bool:
    """Store pictures, then the generation that they belong to, as the gateway does."""
    records = tuple(each.record for each in pictures)
    generation = replace(FINISHED.generation, id=f"gen_{number:024x}", pictures=records)
    kept = await results.put_pictures(tenant, pictures, ttl_s)
    finished = replace(FINISHED, generation=generation, conversation=None)
    return kept and await results.put_generation(tenant, finished, ttl_s)


async def present(results: RedisResults, tenant: str, pictures: list[Picture]) -> list[bool]:
    return [await results.get_picture(tenant, each.id) is not None for each in pictures]


async def taken(clients: StoreClients, tenant: str) -> float:
    """What the quota counts, in KiB."""
    return -float(await clients.ledger.zscore(keys.index_key(tenant), "#") or 0)


async def expire(clients: StoreClients, tenant: str, image: Picture) -> None:
    size = -(-image.length // KIB)
    await clients.ledger.zadd(keys.index_key(tenant), {image.id: 2**20 * 1_000_000 + size})


async def test_a_picture_comes_back_until_it_is_no_longer_listed(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures)
    assert await keep(results, tenant, picture(b"a"), picture(b"b"))
    assert await results.get_picture(tenant, picture(b"a").id) == picture(b"a")
    if not pictures.expires:
        await expire(clients, tenant, picture(b"a"))
        assert await present(results, tenant, [picture(b"a"), picture(b"b")]) == [False, True]


async def test_within_a_quota_those_that_would_expire_first_go(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    kept = [picture(bytes([number]) * 3 * KIB) for number in range(5)]
    for number, each in enumerate(kept):
        assert await keep(results, tenant, each, ttl_s=1000 * (number + 1), number=number)
        assert await taken(clients, tenant) <= 10
    assert await present(results, tenant, kept) == [False, False, True, True, True]
    assert [await pictures.exists(tenant, each.id) for each in kept] == [False, False, True, True, True]
    assert await taken(clients, tenant) == 9
    assert await clients.ledger.pttl(keys.index_key(tenant)) > 4000 * 1000
    assert await results.get_generation(tenant, f"gen_{0:024x}") is None, "it goes with its picture"
    assert await results.get_generation(tenant, f"gen_{4:024x}") is not None


async def test_one_tenants_pictures_displace_no_others(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 4 * KIB)
    assert await keep(results, f"{tenant}-b", picture(b"b" * KIB), ttl_s=10)
    for number in range(8):
        assert await keep(results, tenant, picture(bytes([number]) * KIB), number=number)
    assert await results.get_picture(f"{tenant}-b", picture(b"b" * KIB).id) is not None
    assert await taken(clients, tenant) == 4


async def test_what_is_new_is_never_displaced_by_itself(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 5 * KIB)
    late, soon = picture(b"late" * KIB), picture(b"soon" * KIB)
    assert await keep(results, tenant, late, ttl_s=10_000)
    assert await keep(results, tenant, soon, ttl_s=10, number=2)
    assert await present(results, tenant, [late, soon]) == [False, True]


async def test_a_picture_that_is_kept_again_counts_once_and_as_long_as_the_longest(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    first, second = (picture(mark * 4 * KIB) for mark in (b"a", b"b"))
    for each, ttl_s in ((first, 1000), (second, 60), (first, 10), (first, 60)):
        assert await keep(results, tenant, each, ttl_s=ttl_s)
    assert await taken(clients, tenant) == 8
    score = await clients.ledger.zscore(keys.index_key(tenant), first.id)
    now = (await clients.ledger.time())[0]
    assert score is not None
    assert 1000 <= int(score) // 2**20 - now + 2 <= 1102


async def test_what_has_expired_takes_no_room(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    gone, other, late = (picture(mark * 4 * KIB) for mark in (b"a", b"b", b"c"))
    assert await keep(results, tenant, gone, other)
    await expire(clients, tenant, gone)
    assert await keep(results, tenant, late, number=2)
    assert await taken(clients, tenant) == 8
    assert not await pictures.exists(tenant, gone.id)
    assert await present(results, tenant, [other, late]) == [True, True]


async def test_a_picture_larger_than_the_quota_is_not_kept_and_displaces_nothing(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    assert await keep(results, tenant, picture(b"s" * 4 * KIB))
    assert not await keep(results, tenant, picture(b"l" * 11 * KIB), number=2)
    assert await results.get_picture(tenant, picture(b"s" * 4 * KIB).id) is not None
    assert not await pictures.exists(tenant, picture(b"l" * 11 * KIB).id)


async def test_an_index_that_the_store_has_forgotten_counts_anew(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    assert await keep(results, tenant, picture(b"a" * 9 * KIB))
    await clients.ledger.delete(keys.index_key(tenant))
    assert await keep(results, tenant, picture(b"b" * 9 * KIB), number=2)
    assert await taken(clients, tenant) == 9


async def damage(pictures: PictureStore, clients: StoreClients, tenant: str, image: Picture) -> None:
    """Flip a bit of what is stored."""
    if isinstance(pictures, FilePictures):
        (path,) = pictures.folder.glob(f"{tenant}/*/{image.id}")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif isinstance(pictures, RedisPictures):
        key = keys.image_key(tenant, image.id)
        await clients.blobs.setrange(key, await clients.blobs.strlen(key) - 1, b"?")
    else:
        await pictures.put(tenant, replace(image, data=bytes(image.data)[:-1] + b"?"), 60_000)


@pytest.mark.parametrize("length", [1000, 1_200_000])
async def test_a_damaged_picture_is_told_counted_deleted_and_never_served(
    clients: StoreClients,
    pictures: PictureStore,
    tenant: str,
    length: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[None] = []
    results = open_results(clients, pictures, on_damaged=lambda: counted.append(None))
    kept = picture(b"p" * length)
    assert await keep(results, tenant, kept)
    await damage(pictures, clients, tenant, kept)
    assert await results.get_picture(tenant, kept.id) is None
    assert (results.damaged, len(counted)) == (1, 1)
    assert "damaged" in caplog.text
    assert not await pictures.exists(tenant, kept.id)
    assert await clients.ledger.zscore(keys.index_key(tenant), kept.id) is None
    assert await keep(results, tenant, kept)
    assert await results.get_picture(tenant, kept.id) == kept


async def test_sixty_four_readers_of_one_picture_hold_one_copy(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures)
    kept = picture(bytes(range(256)) * 48_000)
    assert await keep(results, tenant, kept)
    tracemalloc.start()
    try:
        readers = [results.get_picture(tenant, kept.id) for _ in range(64)]
        found = await asyncio.gather(*readers)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found[0] == kept
    assert len({id(each) for each in found}) == 1
    assert peak < 1.1 * kept.length
    assert await results.get_picture(tenant, kept.id) is found[0], "and so does who comes later"


async def test_a_reader_who_leaves_does_not_end_the_others(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures)
    kept = picture(b"x" * 5_000_000)
    assert await keep(results, tenant, kept)
    first, second = (asyncio.create_task(results.get_picture(tenant, kept.id)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == kept


async def test_writing_a_large_picture_holds_no_second_copy_of_it(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures)
    kept = picture(b"p" * 20_000_000)
    assert await keep(results, tenant, picture(b"warm"))
    tracemalloc.start()
    try:
        assert await keep(results, tenant, kept, number=2)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.1 * kept.length


async def test_what_a_picture_costs_in_commands(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures, 10 * KIB)
    await keep(results, tenant, picture(b"warm"))
    written, _inside = await commands(clients, keep(results, tenant, picture(b"x"), number=2))
    read, _inside = await commands(clients, results.get_picture(tenant, picture(b"x").id))
    if pictures.expires:
        assert (written, read) == (["SET", "EVAL"], ["GET"])
    else:
        assert (written, read) == (["EVAL", "EVAL"], ["EVAL"])


async def test_a_picture_takes_less_than_three_kilobytes_of_redis(
    clients: StoreClients, tmp_path: Path, tenant: str
) -> None:
    results = open_results(clients, FilePictures(tmp_path / "pictures", "X"))

    async def measure() -> int:
        return int((await clients.ledger.info("memory"))["used_memory_dataset"])

    await keep(results, tenant, picture(b"warm"), number=10**6)
    before = await measure()
    for number in range(300):
        assert await keep(results, tenant, picture(number.to_bytes(2, "big") * 50_000), number=number)
    assert (await measure() - before) / 300 < 3000
