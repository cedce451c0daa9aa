"""What every store of pictures does, each against a real server or a real disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture

if TYPE_CHECKING:
    from app.pictures.ports import PictureStore, StoredObject

MINUTE_MS = 60_000


def picture(data: bytes, mime_type: str = "image/jpeg") -> Picture:
    return Picture(f"img_{compute_digest(data)}", mime_type, 1024, 768, data)


async def list_all(pictures: PictureStore, tenant: str, after: str = "") -> list[StoredObject]:
    return [each async for page in pictures.list_objects(after) for each in page if each.tenant_id == tenant]


@pytest.mark.parametrize("length", [0, 1, 999_999, 1_000_001, 20_000_000])
async def test_an_image_comes_back_byte_for_byte(pictures: PictureStore, tenant: str, length: int) -> None:
    kept = picture((bytes(range(251)) * (length // 251 + 1))[:length])
    await pictures.put(tenant, kept, MINUTE_MS)
    assert await pictures.get(tenant, kept.id) == kept
    assert await pictures.exists(tenant, kept.id)


@pytest.mark.parametrize("mime_type", ["", "application/pdf", "video/mp4", "text/plain"])
async def test_a_file_keeps_its_type(pictures: PictureStore, tenant: str, mime_type: str) -> None:
    await pictures.put(tenant, picture(b"file", mime_type), MINUTE_MS)
    found = await pictures.get(tenant, picture(b"file").id)
    assert found is not None
    assert (found.mime_type, found.width, found.height) == (mime_type, 1024, 768)


async def test_what_is_not_there_is_none(pictures: PictureStore, tenant: str) -> None:
    assert await pictures.get(tenant, picture(b"none").id) is None
    assert not await pictures.exists(tenant, picture(b"none").id)
    await pictures.delete(tenant, [picture(b"none").id, picture(b"neither").id])
    await pictures.delete(tenant, [])


async def test_another_tenant_does_not_find_it(pictures: PictureStore, tenant: str) -> None:
    await pictures.put(tenant, picture(b"mine"), MINUTE_MS)
    for other in (f"{tenant}-b", tenant[:-1] + "x", "a"):
        assert await pictures.get(other, picture(b"mine").id) is None
        await pictures.delete(other, [picture(b"mine").id])
    assert await pictures.get(tenant, picture(b"mine").id) == picture(b"mine")


@pytest.mark.parametrize("odd", ["..", "a/b", "A", "a}", "", ".partial", "probe/x", "-a", "ä"])
async def test_what_is_no_tenant_never_becomes_a_name(pictures: PictureStore, odd: str) -> None:
    for call in (
        pictures.put(odd, picture(b"x"), MINUTE_MS),
        pictures.get(odd, picture(b"x").id),
        pictures.delete(odd, [picture(b"x").id]),
    ):
        with pytest.raises(ValueError, match="no tenant id"):
            await call


@pytest.mark.parametrize(
    "odd", ["img_", "../../etc/passwd", "img_" + "0" * 63, "img_" + "0" * 64 + "\n", "img_" + "G" * 64]
)
async def test_what_is_no_image_id_never_becomes_a_name(
    pictures: PictureStore, tenant: str, odd: str
) -> None:
    with pytest.raises(ValueError, match="no image id"):
        await pictures.get(tenant, odd)
    with pytest.raises(ValueError, match="no image id"):
        await pictures.delete(tenant, [odd])


async def test_what_is_stored_again_is_the_same(pictures: PictureStore, tenant: str) -> None:
    for _ in range(2):
        await pictures.put(tenant, picture(b"twice"), MINUTE_MS)
        assert await pictures.get(tenant, picture(b"twice").id) == picture(b"twice")
    assert len(await list_all(pictures, tenant)) == 1


async def test_what_is_deleted_is_gone_and_the_rest_stays(pictures: PictureStore, tenant: str) -> None:
    kept = [picture(bytes([number])) for number in range(5)]
    for each in kept:
        await pictures.put(tenant, each, MINUTE_MS)
    await pictures.delete(tenant, [kept[0].id, picture(b"none").id, kept[1].id])
    left = {each.id for each in kept[2:]}
    assert {each.image_id for each in await list_all(pictures, tenant)} == left
    assert await pictures.get(tenant, kept[0].id) is None


async def test_a_listing_tells_whose_each_is_and_goes_on_after_a_name(
    pictures: PictureStore, tenant: str
) -> None:
    kept = {picture(bytes([number])).id for number in range(12)}
    for number in range(12):
        await pictures.put(tenant, picture(bytes([number])), MINUTE_MS)
    listed = await list_all(pictures, tenant)
    assert {each.image_id for each in listed} == kept
    if pictures.expires:
        return
    assert [each.name for each in listed] == sorted(each.name for each in listed)
    assert await list_all(pictures, tenant, listed[4].name) == listed[5:]
    assert all(abs(each.modified_s - time.time()) < 60 for each in listed)


async def test_a_listed_object_is_deleted_unless_it_was_written_again(
    pictures: PictureStore, tenant: str
) -> None:
    await pictures.put(tenant, picture(b"x"), MINUTE_MS)
    (listed,) = await list_all(pictures, tenant)
    if not pictures.expires:
        earlier = type(listed)(listed.name, listed.tenant_id, listed.image_id, listed.modified_s - 10)
        await pictures.delete_object(earlier)
        assert await pictures.exists(tenant, picture(b"x").id)
    await pictures.delete_object(listed)
    assert not await pictures.exists(tenant, picture(b"x").id)
    await pictures.delete_object(listed)


async def test_a_store_that_can_be_used_passes_its_check(pictures: PictureStore) -> None:
    await pictures.check()
    assert [each async for page in pictures.list_objects() for each in page if "probe" in each.name] == []
