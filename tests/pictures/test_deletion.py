"""What is deleted cannot be read any more, wherever the bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.domain.errors import StoreUnavailable
from app.pictures.folder import FilePictures
from app.store import keys
from tests.pictures.test_contract import picture
from tests.pictures.test_results import keep, open_results, present, taken

if TYPE_CHECKING:
    from pathlib import Path

    from app.pictures.ports import PictureStore
    from app.store.client import StoreClients

GENERATION = f"gen_{1:024x}"


async def test_a_deleted_picture_is_gone_in_every_replica(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    here, there = (open_results(clients, pictures) for _ in range(2))
    kept = picture(b"x" * 2048)
    assert await keep(here, tenant, kept, picture(b"stays"))
    held = await there.get_picture(tenant, kept.id)
    assert held == kept
    assert await here.delete_picture(tenant, kept.id)
    assert await there.get_picture(tenant, kept.id) is None, "although it is still in memory there"
    assert await here.get_picture(tenant, kept.id) is None
    assert not await pictures.exists(tenant, kept.id)
    assert await taken(clients, tenant) == 1
    assert await here.get_picture(tenant, picture(b"stays").id) is not None
    assert not await here.delete_picture(tenant, kept.id)
    assert not await here.delete_picture(tenant, "img_x")


async def test_a_deletion_that_was_cut_off_can_be_repeated(
    clients: StoreClients, tmp_path: Path, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = FilePictures(tmp_path / "pictures", "X")
    results = open_results(clients, pictures)
    assert await keep(results, tenant, picture(b"x"))

    async def fail(*_arguments: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(FilePictures, "delete", fail)
        with pytest.raises(StoreUnavailable):
            await results.delete_picture(tenant, picture(b"x").id)
        assert await results.get_picture(tenant, picture(b"x").id) is None
        assert await results.get_generation(tenant, GENERATION) is not None
        with pytest.raises(StoreUnavailable):
            await results.delete_generation(tenant, GENERATION)
    assert await results.delete_picture(tenant, picture(b"x").id)
    assert await results.delete_generation(tenant, GENERATION)


async def test_a_generation_is_deleted_with_its_pictures_and_its_cached_result(
    clients: StoreClients, pictures: PictureStore, tenant: str
) -> None:
    results = open_results(clients, pictures)
    assert await keep(results, tenant, picture(b"a"), picture(b"b"))
    assert await keep(results, tenant, picture(b"c"), number=2)
    cached = keys.result_key(tenant, "f")
    await clients.ledger.set(cached, "a result", ex=60)
    assert not await results.delete_generation(f"{tenant}-b", GENERATION)
    assert await results.delete_generation(tenant, GENERATION)
    assert await present(results, tenant, [picture(b"a"), picture(b"b"), picture(b"c")]) == [
        False,
        False,
        True,
    ]
    assert not await pictures.exists(tenant, picture(b"a").id)
    assert await results.get_generation(tenant, GENERATION) is None
    assert not await clients.ledger.exists(cached)
    assert not await results.delete_generation(tenant, GENERATION)


async def test_of_a_forgotten_tenant_nothing_is_left(
    clients: StoreClients, pictures: PictureStore, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.results.index.TAKEN_AT_ONCE", 2)
    results = open_results(clients, pictures)
    assert await keep(results, f"{tenant}-b", picture(b"of another"))
    for number in range(3):
        assert await keep(results, tenant, picture(bytes([number])), number=number)
    await results.forget_tenant(tenant)
    assert [name async for name in clients.ledger.scan_iter(f"fg:{{{tenant}}}:*")] == []
    listed = [each async for page in pictures.list_objects() for each in page if each.tenant_id == tenant]
    assert listed == []
    assert await results.get_picture(f"{tenant}-b", picture(b"of another").id) is not None
    await results.forget_tenant(tenant)
