"""Generations under their own ids: kept no longer than their files, and told to their own tenant alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from app.domain.conversation import Conversation
from app.domain.errors import StoreUnavailable
from app.domain.fingerprint import compute_digest
from app.domain.generation import Generation, Picture, SearchResults, SearchSource, Usage
from app.domain.request import Grounding
from app.domain.stored_generation import Effective, StoredGeneration
from app.generation import records
from app.results.redis import RedisResults
from app.store import keys
from app.store.client import open_clients

if TYPE_CHECKING:
    from app.store.client import StoreClients

ID = "gen_" + "a1" * 12
FILE = Picture(f"img_{compute_digest(b'x')}", "image/png", 1, 1, b"x")
EFFECTIVE = Effective(
    *("gemini-3.1-flash-image", "16:9", "1K", 1, ("IMAGE",), None, None, 1.0, 0.95, (None,), 32768),
    *("minimal", 0, None, Grounding(web_search=True)),
)
TALK = Conversation(ID, "gemini-3.1-flash-image", "vertex", 1, '{"a":"p"}', (("p", FILE.id),), 0, 1, 9, 0, 1)
WORDS = 'Words "quoted", ümlaut, 🎨 and \x00'
FOUND = SearchResults(("ostend",), "<b>a</b>", (SearchSource("A page", "https://a.example/"),))
KEPT = StoredGeneration(
    Generation(ID, "m", "v", 7, (), WORDS, "STOP", Usage(), searches=(FOUND,)), "f", EFFECTIVE, TALK
)


async def test_a_generation_comes_back_the_same_to_its_own_tenant(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    assert await results.put_generation(tenant, KEPT, 60)
    assert await results.get_generation(tenant, ID) == KEPT
    assert await results.get_generation(f"{tenant}-x", ID) is None
    assert await results.get_generation(tenant, ID.replace("a1", "b2")) is None


async def test_half_a_surrogate_pair_does_not_lose_a_paid_generation(
    clients: StoreClients, tenant: str
) -> None:
    results = RedisResults(clients.blobs)
    odd = replace(KEPT, generation=replace(KEPT.generation, text="x\ud83d"))
    assert await results.put_generation(tenant, odd, 60)
    found = await results.get_generation(tenant, ID)
    assert found is not None
    assert found.generation.text == "x?"


async def test_the_files_of_a_conversation_outlive_it(clients: StoreClients, tenant: str) -> None:
    results = RedisResults(clients.blobs)
    longer = Picture(f"img_{compute_digest(b'y')}", "image/png", 1, 1, b"y")
    await results.put_pictures(tenant, (FILE,), 10)
    await results.put_pictures(tenant, (longer,), 100_000)
    places = (*TALK.places, ("q", longer.id))
    await results.put_generation(tenant, replace(KEPT, conversation=replace(TALK, places=places)), 1000)
    life = await clients.blobs.pttl(keys.generation_key(tenant, ID))
    assert 800_000 < life <= 1_000_000
    assert life <= await clients.blobs.pttl(keys.image_key(tenant, FILE.id)) <= 1_000_000
    assert await clients.blobs.pttl(keys.image_key(tenant, longer.id)) > 90_000_000, "and is not cut short"


@pytest.mark.parametrize("odd", ["", "gen_", "gen_" + "0" * 23, "gen_" + "F" * 24, "gen_" + "0" * 24 + "\n"])
async def test_what_is_no_generation_id_never_reaches_the_store(odd: str) -> None:
    async with open_clients("unix:///nowhere.sock") as clients:
        assert await RedisResults(clients.blobs).get_generation("a", odd) is None
    with pytest.raises(ValueError, match="generation id"):
        keys.generation_key("a", odd)


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"\xff", records.encode_stored_generation(KEPT).replace('"v":1', '"v":9').encode()]
)
async def test_what_this_version_did_not_write_is_as_good_as_nothing(
    clients: StoreClients, tenant: str, value: bytes
) -> None:
    await clients.blobs.set(keys.generation_key(tenant, ID), value, px=60_000)
    assert await RedisResults(clients.blobs).get_generation(tenant, ID) is None


async def test_a_generation_under_a_wrong_key_is_not_told(clients: StoreClients, tenant: str) -> None:
    other = ID.replace("a1", "b2")
    value = records.encode_stored_generation(KEPT).encode()
    await clients.blobs.set(keys.generation_key(tenant, other), value, px=60_000)
    assert await RedisResults(clients.blobs).get_generation(tenant, other) is None


async def test_a_store_that_is_away_keeps_nothing_and_tells_nothing() -> None:
    async with open_clients("unix:///nowhere.sock") as clients:
        results = RedisResults(clients.blobs)
        assert not await results.put_generation("a", KEPT, 60)
        with pytest.raises(StoreUnavailable):
            await results.get_generation("a", ID)
