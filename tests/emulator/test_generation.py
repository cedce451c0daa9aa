"""Answers over HTTP: what Google's API would deliver, in both of its forms."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import ImageChops, ImageStat

from tests.emulator.conftest import (
    DIALECTS,
    EXPRESS,
    GENERATE,
    MODEL,
    STREAM,
    VERTEX,
    asking,
    pictures,
    small,
)
from tests.fixtures import BY_MIME_TYPE, image_bytes

if TYPE_CHECKING:
    import httpx2

    from app.domain.card import Card

HARBOUR = ("image/jpeg", image_bytes("harbour.jpg"))


async def post(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", "512"), ("16:9", "1K"), ("9:21", "512"), ("8:1", "2K"), ("4:5", "4K")]
)
async def test_a_picture_has_the_cards_pixels_and_tokens(
    client: httpx2.AsyncClient, card: Card, ratio: str, size: str
) -> None:
    answer = await post(
        client, GENERATE, asking("A fox", imageConfig={"aspectRatio": ratio, "imageSize": size})
    )
    (picture,) = pictures(answer)
    usage = answer["usageMetadata"]
    assert picture.size == card.pixels[ratio][size]
    assert usage["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": card.image_tokens(size)}]
    assert 414 <= usage["candidatesTokenCount"] - card.image_tokens(size) <= 482
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]


async def test_the_default_is_a_square_jpeg_of_1k_beside_text(client: httpx2.AsyncClient) -> None:
    answer = await post(client, GENERATE, {"contents": [{"parts": [{"text": "A fox"}]}]})
    (picture,) = pictures(answer)
    parts = answer["candidates"][0]["content"]["parts"]
    assert (picture.size, picture.format) == ((1024, 1024), "JPEG")
    assert [sorted(part) for part in parts] == [
        ["text", "thoughtSignature"],
        ["inlineData", "thoughtSignature"],
    ]
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert answer["modelVersion"] == MODEL
    assert answer["responseId"]


async def test_without_a_ratio_the_first_input_decides(client: httpx2.AsyncClient, card: Card) -> None:
    answer = await post(
        client, GENERATE, small("Brighter", ("image/webp", image_bytes("orchard.webp")), HARBOUR)
    )
    assert pictures(answer)[0].size == card.pixels["3:4"]["512"]


@pytest.mark.parametrize("path", DIALECTS.values(), ids=DIALECTS)
async def test_the_same_request_gives_the_same_picture(client: httpx2.AsyncClient, path: str) -> None:
    body = small("A fox", HARBOUR, seed=7)
    first, second, other = [
        (await post(client, path, sent))["candidates"][0]["content"]["parts"][0]
        for sent in (body, body, small("A fox", HARBOUR, seed=8))
    ]
    assert first == second
    assert first["inlineData"]["data"] != other["inlineData"]["data"]


@pytest.mark.parametrize("path", DIALECTS.values(), ids=DIALECTS)
async def test_every_request_without_a_seed_is_drawn_anew(client: httpx2.AsyncClient, path: str) -> None:
    drawn = [await post(client, path, small("A fox", HARBOUR)) for _ in range(2)]
    drawn += await asyncio.gather(*[post(client, path, small("A fox", HARBOUR)) for _ in range(2)])
    parts = [answer["candidates"][0]["content"]["parts"][0] for answer in drawn]
    assert len({part["inlineData"]["data"] for part in parts}) == 4
    assert len({answer["usageMetadata"]["totalTokenCount"] for answer in drawn}) == 1
    for one, other in itertools.combinations([pictures(answer)[0].convert("L") for answer in drawn], 2):
        assert ImageStat.Stat(ImageChops.difference(one, other)).mean[0] > 8, "anybody can see it"


@pytest.mark.parametrize(("mime_type", "name"), BY_MIME_TYPE.items())
async def test_every_input_type_is_drawn_in_and_counted(
    client: httpx2.AsyncClient, mime_type: str, name: Any
) -> None:
    answer = await post(client, GENERATE, small("A fox", (mime_type, image_bytes(name))))
    assert {"modality": "IMAGE", "tokenCount": 258} in answer["usageMetadata"]["promptTokensDetails"]


async def test_the_forms_differ_where_google_differs(client: httpx2.AsyncClient) -> None:
    gemini = await post(client, GENERATE, small("A fox", HARBOUR, HARBOUR))
    vertex = await post(client, VERTEX, small("A fox", HARBOUR, HARBOUR))
    images = [
        next(
            item["tokenCount"]
            for item in answer["usageMetadata"]["promptTokensDetails"]
            if item["modality"] == "IMAGE"
        )
        for answer in (gemini, vertex)
    ]
    assert images == [2 * 258, 2 * 1120]
    assert (gemini["usageMetadata"]["serviceTier"], "createTime" in gemini) == ("standard", False)
    assert (vertex["usageMetadata"]["trafficType"], "createTime" in vertex) == ("ON_DEMAND", True)


@pytest.mark.parametrize(("mime_type", "name"), [("image/png", "PNG"), ("image/jpeg", "JPEG")])
async def test_vertex_delivers_the_type_that_was_asked_for(
    client: httpx2.AsyncClient, mime_type: str, name: str
) -> None:
    options = {"imageSize": "512", "imageOutputOptions": {"mimeType": mime_type}}
    answer = await post(client, EXPRESS, asking("A fox", imageConfig=options))
    part = answer["candidates"][0]["content"]["parts"][0]
    assert (part["inlineData"]["mimeType"], pictures(answer)[0].format) == (mime_type, name)


async def test_a_lower_quality_makes_a_smaller_file(client: httpx2.AsyncClient) -> None:
    lengths = []
    for quality in (95, 20):
        options = {
            "imageSize": "512",
            "imageOutputOptions": {"mimeType": "image/jpeg", "compressionQuality": quality},
        }
        answer = await post(client, EXPRESS, asking("A fox", imageConfig=options))
        lengths.append(len(answer["candidates"][0]["content"]["parts"][0]["inlineData"]["data"]))
    assert lengths[1] < lengths[0] / 2


async def test_both_cases_of_every_name_and_both_alphabets_are_read(client: httpx2.AsyncClient) -> None:
    data = HARBOUR[1]
    camel = {
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"inlineData": {"mimeType": "image/jpeg", "data": base64.b64encode(data).decode()}}
                ],
            }
        ],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "3:2", "imageSize": "512"},
            "seed": 7,
        },
    }
    snake = {
        "contents": [
            {
                "role": "user",
                "parts": [
                    {
                        "inline_data": {
                            "mime_type": "image/jpeg",
                            "data": base64.urlsafe_b64encode(data).decode().rstrip("="),
                        }
                    }
                ],
            }
        ],
        "generation_config": {
            "response_modalities": ["IMAGE"],
            "image_config": {"aspect_ratio": "3:2", "image_size": "512"},
            "seed": 7,
        },
    }
    first, second = [await post(client, GENERATE, body) for body in (camel, snake)]
    assert first["candidates"] == second["candidates"]


@pytest.mark.parametrize(
    "response_format",
    [
        {"image": {"aspectRatio": "aspect_ratio_sixteen_by_nine", "imageSize": 1}},
        [{"image": {"aspectRatio": "ASPECT_RATIO_SIXTEEN_BY_NINE", "imageSize": "IMAGE_SIZE_FIVE_TWELVE"}}],
    ],
)
@pytest.mark.parametrize("path", [GENERATE, VERTEX])
async def test_the_newer_response_format_is_read(
    client: httpx2.AsyncClient, card: Card, path: str, response_format: Any
) -> None:
    answer = await post(client, path, asking("A fox", responseFormat=response_format))
    assert pictures(answer)[0].size == card.pixels["16:9"]["512"]


async def test_thinking_hard_costs_thoughts_and_shows_them_only_when_asked(
    client: httpx2.AsyncClient,
) -> None:
    quiet = await post(client, GENERATE, small("A fox", thinkingConfig={"thinkingLevel": "HIGH"}))
    shown = await post(
        client, GENERATE, small("A fox", thinkingConfig={"thinking_level": "HIGH", "include_thoughts": True})
    )
    usage = quiet["usageMetadata"]
    assert usage["thoughtsTokenCount"] >= 1000
    assert (
        usage["totalTokenCount"]
        == usage["promptTokenCount"] + usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    )
    assert (len(pictures(quiet, thoughts=True)), len(pictures(shown, thoughts=True))) == (0, 1)
    thoughts = [part for part in shown["candidates"][0]["content"]["parts"] if part.get("thought")]
    assert not any("thoughtSignature" in part for part in thoughts)
    assert len(pictures(shown)) == 1


async def test_a_picture_may_be_edited_when_it_comes_back_with_its_signature(
    client: httpx2.AsyncClient,
) -> None:
    body = small("A fox")
    content = (await post(client, GENERATE, body))["candidates"][0]["content"]
    body["contents"] += [content, {"role": "user", "parts": [{"text": "Now in snow"}]}]
    edited = await post(client, GENERATE, body)
    assert edited["candidates"][0]["content"]["parts"] != content["parts"]
    for spoilt, words in (
        (None, "missing a thought_signature in content position 2, part position 1"),
        ("AAAA", "Corrupted thought signature"),
    ):
        content["parts"][0]["thoughtSignature"] = spoilt
        refused = await client.post(GENERATE, json=body)
        assert refused.status_code == 400
        assert words in refused.json()["error"]["message"]


async def test_a_search_is_reported_as_grounding(client: httpx2.AsyncClient) -> None:
    body = small("The tide table of Ostend") | {
        "tools": [{"googleSearch": {"search_types": {"web_search": {}}}}]
    }
    answer = await post(client, GENERATE, body)
    assert answer["candidates"][0]["groundingMetadata"]["webSearchQueries"] == ["The tide table of Ostend"]


async def test_too_few_output_tokens_end_without_a_picture(client: httpx2.AsyncClient) -> None:
    answer = await post(client, GENERATE, small("A fox", maxOutputTokens=100))
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert not pictures(answer)


async def test_a_stream_of_events_ends_with_the_reason_and_full_usage(client: httpx2.AsyncClient) -> None:
    body = small("A fox", responseModalities=["TEXT", "IMAGE"])
    response = await client.post(STREAM, params={"alt": "sse"}, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content.endswith(b"\r\n\r\n")
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\r\n\r\n") if event]
    kinds = [next(iter(event["candidates"][0]["content"]["parts"][0])) for event in events]
    assert kinds == ["text", "inlineData", "text"]
    assert [event["candidates"][0].get("finishReason") for event in events] == [None, None, "STOP"]
    assert "candidatesTokenCount" not in events[0]["usageMetadata"]
    assert events[-1]["usageMetadata"]["candidatesTokensDetails"] == [
        {"modality": "IMAGE", "tokenCount": 747}
    ]


async def test_a_stream_without_sse_is_a_json_array_of_the_same(client: httpx2.AsyncClient) -> None:
    response = await client.post(STREAM, json=small("A fox", seed=7))
    chunks = response.json()
    whole = await post(client, GENERATE, small("A fox", seed=7))
    assert len(chunks) == 2
    assert chunks[0]["candidates"][0]["content"] == whole["candidates"][0]["content"]


@pytest.mark.parametrize("path", [GENERATE, VERTEX])
async def test_tokens_are_counted_by_modality(client: httpx2.AsyncClient, path: str) -> None:
    contents = asking("12345678", HARBOUR)["contents"]
    counted = await post(client, path.replace(":generateContent", ":countTokens"), {"contents": contents})
    image = 258 if path == GENERATE else 1120
    assert counted["totalTokens"] == 2 + image
    assert counted["promptTokensDetails"] == [
        {"modality": "TEXT", "tokenCount": 2},
        {"modality": "IMAGE", "tokenCount": image},
    ]
    assert ("totalBillableCharacters" in counted) == (path == VERTEX)


async def test_words_of_calls_are_counted_and_close_looks_cost_more(client: httpx2.AsyncClient) -> None:
    async def counted(part: dict[str, Any]) -> int:
        body = {"contents": [{"role": "user", "parts": [part]}]}
        return int(
            (await post(client, VERTEX.replace(":generateContent", ":countTokens"), body))["totalTokens"]
        )

    picture = asking("", HARBOUR)["contents"][0]["parts"][1]
    closely = {**picture, "mediaResolution": {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}}
    assert await counted(closely) == 2 * await counted(picture)
    assert await counted({"functionCall": {"name": "f", "args": {"a": "b" * 400}}}) > 100
    answer = {"functionResponse": {"name": "f", "response": {"a": "b" * 400}, "parts": [picture]}}
    assert await counted(answer) > 100 + await counted(picture)


async def test_enumerations_are_read_in_any_case_and_by_number(client: httpx2.AsyncClient) -> None:
    harm = {"category": 7, "threshold": "Block_None"}
    other, usual = {"thinkingLevel": "high"}, {"thinkingLevel": "HIGH"}
    body = small("A fox", thinkingConfig=other, responseModalities=["Text", 2], seed=7)
    spelt = small("A fox", thinkingConfig=usual, responseModalities=["TEXT", "IMAGE"], seed=7)
    first, second = [
        await post(client, GENERATE, each) for each in ({**body, "safetySettings": [harm]}, spelt)
    ]
    assert first["candidates"] == second["candidates"]


async def test_models_are_listed_page_by_page(client: httpx2.AsyncClient) -> None:
    names: list[str] = []
    query = {"pageSize": "1"}
    while True:
        page = (await client.get("/v1beta/models", params=query)).json()
        names += [model["name"] for model in page["models"]]
        if "nextPageToken" not in page:
            break
        query["pageToken"] = page["nextPageToken"]
    whole = (await client.get("/v1/models")).json()["models"]
    assert names == [model["name"] for model in whole]
    assert f"models/{MODEL}" in names


async def test_one_model_is_described_with_its_limits(client: httpx2.AsyncClient) -> None:
    gemini = (await client.get(f"/v1beta/models/{MODEL}")).json()
    vertex = (await client.get(f"/v1beta1/publishers/google/models/{MODEL}")).json()
    assert (gemini["inputTokenLimit"], gemini["outputTokenLimit"]) == (131072, 32768)
    assert vertex["name"] == f"publishers/google/models/{MODEL}"
