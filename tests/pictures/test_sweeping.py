"""The sweep collects what nothing refers to, and moves pictures from one store to another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from app.pictures.folder import PARTIAL, FilePictures
from app.pictures.redis import RedisPictures
from app.results import sweeping
from app.results.index import Index
from app.results.sweeping import GRACE_S, Sweep
from app.store import keys
from tests.pictures.conftest import build_store
from tests.pictures.test_contract import picture
from tests.pictures.test_results import damage, expire, keep, open_results

if TYPE_CHECKING:
    from pathlib import Path

    from app.pictures.ports import PictureStore
    from app.store.client import StoreClients

LATER_S = GRACE_S + 60


@pytest.fixture(autouse=True)
async def rested(clients: StoreClients) -> None:
    """Nobody has swept yet."""
    await clients.ledger.delete(keys.SWEEP, keys.SWEEPING)


class Sweeps:
    """A sweep of a test, and what it reports."""

    def __init__(
        self,
        clients: StoreClients,
        pictures: PictureStore,
        previous: PictureStore | None = None,
        later_s: float = LATER_S,
    ) -> None:
        self.collected: list[int] = []
        self.left: list[int] = []
        self._clients = clients
        self.sweep = Sweep(
            clients.blobs,
            Index(clients.blobs),
            pictures,
            previous,
            on_collected=self.collected.append,
            on_left=self.left.append,
            clock=lambda: time.time() + later_s,
        )

    async def run(self) -> None:
        await self._clients.ledger.delete(keys.SWEEPING)
        assert await self.sweep.run_pass()


async def test_what_nobody_lists_is_collected_once_it_is_old(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    if pictures.expires:
        pytest.skip("in Redis images expire by themselves")
    results = open_results(clients, pictures)
    assert await keep(results, tenant, picture(b"listed"), picture(b"expired"))
    await expire(clients, tenant, picture(b"expired"))
    await pictures.put(tenant, picture(b"never listed"), 0)
    await pictures.put(f"{tenant}-b", picture(b"of a tenant without any"), 0)
    young = Sweeps(clients, pictures, later_s=0)
    await young.run()
    assert young.collected == []
    sweeps = Sweeps(clients, pictures)
    await sweeps.run()
    assert sum(sweeps.collected) == 3
    left = [each.image_id async for page in pictures.list_objects() for each in page]
    assert left == [picture(b"listed").id]
    assert await results.get_picture(tenant, picture(b"listed").id) is not None


async def test_the_rest_of_an_interrupted_write_is_collected(
    clients: StoreClients, tmp_path: Path, tenant: str
) -> None:
    pictures = FilePictures(tmp_path / "pictures", "X")
    await keep(open_results(clients, pictures), tenant, picture(b"listed"))
    (pictures.folder / PARTIAL / "half").write_bytes(b"half a pic")
    sweeps = Sweeps(clients, pictures)
    await sweeps.run()
    assert sweeps.collected == [1]
    assert not (pictures.folder / PARTIAL).exists()


async def test_a_pass_is_bounded_and_the_next_one_goes_on(
    clients: StoreClients, pictures: PictureStore, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pictures.expires:
        pytest.skip("in Redis images expire by themselves")
    monkeypatch.setattr(sweeping, "OBJECTS_MAX", 1)
    for number in range(3):
        await pictures.put(f"{tenant}-{number}", picture(b"x"), 0)
    monkeypatch.setattr("app.pictures.bucket.LISTED", 1)
    for left in (2, 1, 0):
        await Sweeps(clients, pictures).run()
        assert len([each async for page in pictures.list_objects() for each in page]) == left


async def test_of_several_replicas_one_sweeps(clients: StoreClients, tmp_path: Path) -> None:
    sweep = Sweeps(clients, FilePictures(tmp_path, "X")).sweep
    assert await sweep.run_pass()
    assert not await sweep.run_pass()
    assert await clients.ledger.pttl(keys.SWEEPING) > sweeping.PASS_S * 1000, "it rests after a whole round"


@pytest.fixture(params=["redis to file", "redis to s3", "file to s3", "s3 to file", "file to redis"])
def moving(
    request: pytest.FixtureRequest, clients: StoreClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[PictureStore, PictureStore]:
    """The previous store and the present one."""
    before, _, after = request.param.split()
    return (
        build_store(before, request, clients, tmp_path / "before", monkeypatch),
        build_store(after, request, clients, tmp_path / "after", monkeypatch),
    )


async def test_no_picture_is_lost_while_a_deployment_changes_its_store(
    clients: StoreClients, moving: tuple[PictureStore, PictureStore], tenant: str
) -> None:
    previous, present = moving
    kept = [picture(bytes([number]) * 5000) for number in range(4)]
    assert await keep(open_results(clients, previous), tenant, *kept[:2])
    if previous.expires:
        await previous.put(tenant, kept[3], 60_000)  # as versions without an index stored it
        kept = [*kept[:3], kept[3]]
    else:
        kept = kept[:3]
    results = open_results(clients, present, previous=previous)
    assert await keep(results, tenant, kept[2], number=2)
    for each in kept:
        assert await results.get_picture(tenant, each.id) == each
    sweeps = Sweeps(clients, present, previous)
    await sweeps.run()
    for each in kept:
        assert await present.get(tenant, each.id) == each
        assert await previous.get(tenant, each.id) is None
        assert await results.get_picture(tenant, each.id) == each
    await sweeps.run()
    if not previous.expires:
        assert sweeps.left[-1] == 0
        assert sweeps.sweep.conditions() == {"pictures_in_previous_store": 0}
    alone = open_results(clients, present)
    for each in kept:
        assert await alone.get_picture(tenant, each.id) == each


async def test_what_was_deleted_or_damaged_is_not_moved(
    clients: StoreClients, tmp_path: Path, tenant: str
) -> None:
    previous, present = FilePictures(tmp_path / "a", "X"), FilePictures(tmp_path / "b", "X")
    results = open_results(clients, previous)
    await keep(results, tenant, picture(b"damaged"), picture(b"deleted"), picture(b"whole"))
    await damage(previous, clients, tenant, picture(b"damaged"))
    await Index(clients.blobs).remove(tenant, [picture(b"deleted").id])
    await Sweeps(clients, present, previous).run()
    moved = [each.image_id async for page in present.list_objects() for each in page]
    assert moved == [picture(b"whole").id]
    assert [each async for page in previous.list_objects() for each in page] == []


async def test_redis_keeps_the_time_that_is_left(clients: StoreClients, tmp_path: Path, tenant: str) -> None:
    previous, present = FilePictures(tmp_path / "a", "X"), RedisPictures(clients.blobs)
    await keep(open_results(clients, previous), tenant, picture(b"x"), ttl_s=100)
    await Sweeps(clients, present, previous).run()
    assert 95_000 < await present.get_ttl_ms(tenant, picture(b"x").id) <= 112_000
