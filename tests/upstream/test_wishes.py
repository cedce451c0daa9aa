"""Service tiers, Provisioned Throughput and the newer image format: what each back end is told, and says."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app.cards import Catalogue, load_catalogue
from app.domain.estimate import price_nano_usd
from app.domain.passthrough import Passthrough
from app.emulator.child import EmulatorChild
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel
from tests.upstream.conftest import USAGE, answer, asked, lasting, part
from tests.upstream.server import Upstream, answering, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.domain.request import GenerationRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

GEMINI = BackEnd("gemini", api_key="k")
VERTEX = BackEnd("vertex", api_key="k")
TIER = "x-vertex-ai-llm-shared-request-type"
TYPE = "x-vertex-ai-llm-request-type"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Upstream]:
    async with upstream() as server:
        server.reply = answering(answer(part()))
        yield server


@asynccontextmanager
async def opened(back_end: BackEnd, url: str) -> AsyncIterator[GoogleImageModel]:
    async with GoogleImageModel(replace(back_end, base_url=url), load_catalogue()) as model:
        yield model


async def told(
    running: Upstream, back_end: BackEnd, request: GenerationRequest
) -> tuple[Any, dict[str, str]]:
    """The body and the headers that a back end gets."""
    async with opened(back_end, running.url) as model:
        await model.generate(request, None, lasting(30))
    return running.received[-1].json, running.received[-1].headers


async def test_each_back_end_is_asked_for_the_model_by_its_own_name_for_it(running: Upstream) -> None:
    card = load_catalogue().resolve(asked().model)
    assert card is not None
    named = Catalogue((card.model_copy(update={"model_ids": {"vertex": "its-own-name"}}),))
    for back_end, name in ((VERTEX, "its-own-name"), (GEMINI, card.id)):
        async with GoogleImageModel(replace(back_end, base_url=running.url), named) as model:
            came = await model.generate(asked(), None, lasting(30))
        assert f"/models/{name}:generateContent" in running.received[-1].path
        assert came.back_end == back_end.kind


@pytest.mark.parametrize("tier", [None, "standard", "flex", "priority"])
async def test_gemini_is_told_the_tier_in_the_body_and_vertex_in_a_header(
    running: Upstream, tier: str | None
) -> None:
    request = asked(service_tier=tier)
    body, headers = await told(running, GEMINI, request)
    assert (body.get("serviceTier"), TIER in headers, TYPE in headers) == (tier, False, False)
    body, headers = await told(running, VERTEX, request)
    shared = tier if tier in {"flex", "priority"} else None
    assert ("serviceTier" in body, headers.get(TIER), TYPE in headers) == (False, shared, False)


@pytest.mark.parametrize("request_type", ["dedicated", "shared"])
async def test_vertex_is_told_whether_to_use_provisioned_throughput(
    running: Upstream, request_type: Any
) -> None:
    _, headers = await told(running, replace(VERTEX, request_type=request_type), asked(service_tier="flex"))
    assert (headers[TYPE], headers[TIER]) == (request_type, "flex")
    _, headers = await told(running, replace(GEMINI, request_type=request_type), asked())
    assert TYPE not in headers


async def test_the_emulator_alone_learns_whose_call_it_is(running: Upstream) -> None:
    for back_end in (GEMINI, VERTEX):
        _, headers = await told(running, back_end, asked())
        assert "x-flashgate-tenant" not in headers
    _, headers = await told(running, BackEnd("emulator", base_url=running.url), asked())
    assert headers["x-flashgate-tenant"] == lasting(30).tenant_id


async def test_a_body_in_googles_own_words_has_the_tier_where_the_back_end_reads_it(
    running: Upstream,
) -> None:
    skeleton = json.dumps({"contents": [], "serviceTier": "priority", "labels": {"team": "ä"}}).encode()
    request = asked(service_tier="priority", verbatim=Passthrough(skeleton, {}, ""))
    body, _ = await told(running, GEMINI, request)
    assert body == {"contents": [], "serviceTier": "priority", "labels": {"team": "ä"}}
    body, headers = await told(running, VERTEX, request)
    assert body == {"contents": [], "labels": {"team": "ä"}}
    assert headers[TIER] == "priority"
    of_a_header = asked(service_tier="flex", verbatim=Passthrough(b'{"contents": []}', {}, ""))
    body, _ = await told(running, GEMINI, of_a_header)
    assert body == {"contents": [], "serviceTier": "flex"}, "the other back end reads it from the body"


@pytest.mark.parametrize(
    ("usage", "header", "tier", "nano_usd"),
    [
        ({}, {}, "", 123_837_300),
        ({"trafficType": "ON_DEMAND"}, {}, "standard", 68_798_500),
        ({"trafficType": "ON_DEMAND_FLEX"}, {}, "flex", 34_399_250),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, {}, "priority", 123_837_300),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, {}, "provisioned", 68_798_500),
        ({"trafficType": "A_NEW_ONE"}, {}, "", 123_837_300),
        ({"serviceTier": "flex"}, {"x_gemini_service_tier": "standard"}, "flex", 34_399_250),
        ({}, {"x_gemini_service_tier": "priority"}, "priority", 123_837_300),
    ],
)
async def test_a_picture_costs_what_the_tier_costs_that_was_given(
    running: Upstream, usage: dict[str, str], header: dict[str, Any], tier: str, nano_usd: int
) -> None:
    running.reply = answering({**answer(part()), "usageMetadata": {**USAGE, **usage}}, **header)
    async with opened(GEMINI, running.url) as model:
        came = await model.generate(asked(service_tier="priority"), None, lasting(30))
    card = load_catalogue().resolve(asked().model)
    assert card is not None
    assert came.usage.tier == tier
    assert price_nano_usd(card, came.usage) == nano_usd


IN_WORDS = {"aspectRatio": "ASPECT_RATIO_TWENTY_ONE_BY_NINE", "imageSize": "IMAGE_SIZE_FIVE_TWELVE"}


@pytest.mark.parametrize(
    ("back_end", "said"),
    [
        (GEMINI, {"image": IN_WORDS}),
        (VERTEX, [{"image": IN_WORDS}]),
    ],
    ids=["gemini", "vertex"],
)
async def test_the_newer_format_is_spelt_as_each_back_end_spells_it(
    running: Upstream, back_end: BackEnd, said: Any
) -> None:
    newer = replace(back_end, image_style="response_format")
    body, _ = await told(running, newer, asked(aspect_ratio="21:9", image_size="512"))
    assert body["generationConfig"]["responseFormat"] == said
    assert "imageConfig" not in body["generationConfig"]
    body, _ = await told(running, newer, asked())
    assert not {"responseFormat", "imageConfig"} & set(body["generationConfig"])


@pytest.mark.parametrize(
    "fields",
    [{"aspect_ratio": "9:21"}, {"aspect_ratio": "1:1", "output_mime_type": "image/png"}],
    ids=["a ratio without a word", "a type"],
)
async def test_what_the_newer_format_cannot_say_goes_out_in_the_older_one(
    running: Upstream, fields: dict[str, str]
) -> None:
    body, _ = await told(running, replace(VERTEX, image_style="response_format"), asked(**fields))
    assert "responseFormat" not in body["generationConfig"]
    assert body["generationConfig"]["imageConfig"]["aspectRatio"] == fields["aspect_ratio"]


async def test_both_forms_of_the_newer_format_draw_what_was_asked() -> None:
    async with EmulatorChild() as child:
        for back_end in (GEMINI, BackEnd("emulator", base_url=child.base_url)):
            newer = replace(back_end, image_style="response_format")
            async with opened(newer, child.base_url) as model:
                for ratio in ("1:1", "8:1", "16:9", "4:5"):
                    request = asked(aspect_ratio=ratio, image_size="512")
                    came = await model.generate(request, None, lasting(30))
                    card = load_catalogue().resolve(request.model)
                    assert card is not None
                    picture = came.pictures[0]
                    assert (picture.width, picture.height) == card.pixels[ratio]["512"]
