"""Google's dialect read: what becomes the gateway's own words, what goes on as it is, what is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from app.cards import load_catalogue
from app.domain.estimate import estimate
from app.domain.fingerprint import compute_fingerprint
from app.domain.policy import Policy
from app.domain.request import CacheDirective, GenerationRequest, Grounding
from app.domain.tenancy import Caller, Key, Tenant
from app.domain.validation import normalize_request
from app.generation.job import judge
from app.media.splicing import splice
from app.surfaces.gemini.fields import convert_to_camel_case, format_field_path
from app.surfaces.gemini.request import parse_order
from app.surfaces.gemini.routes import BYTES_FORMAT
from app.surfaces.http.body import read_json
from app.surfaces.http.context import Limits
from tests.fixtures import image_bytes

if TYPE_CHECKING:
    from app.generation.order import Order
    from app.surfaces.http.context import Service

CATALOGUE = load_catalogue()
CARD = next(card for card in CATALOGUE if card.id == "gemini-3.1-flash-image")
POLICY = Policy(capabilities=frozenset({"cloud_storage"}))
CALLER = Caller(Tenant("t", ZoneInfo("UTC"), (), ()), Key("k", "", frozenset()))
FOLDER = Path(__file__).parents[1] / "contract/recorded"
RECORDED = {
    name: recorded["body"]
    for file in ("google.json", "node.json")
    for name, recorded in json.loads((FOLDER / file).read_text()).items()
    if "everything" in name and "-openai-" not in name
}
LIMITS = Limits(
    default_model=CARD.id,
    light_bytes_max=100_000,
    input_bytes_max=50_000_000,
    input_pixels_max=64_000_000,
    inputs_max=64,
    chunked_above_bytes=1_000_000,
    stream_status_wait_s=5,
    public_url=None,
    usage_days=92,
    location="global",
)
SERVICE = cast("Service", SimpleNamespace(limits=LIMITS))
PNG = base64.b64encode(image_bytes("harbour.png")).decode()
WEBP = base64.b64encode(image_bytes("orchard.webp")).decode()
OUTPUT_OPTIONS = "generation_config.image_config.image_output_options"
SIGNATURE = b"\x12\xfb\xff\xfe opaque"


async def ordered(body: dict[str, Any] | str, *, vertex: bool = False, service: Service = SERVICE) -> Order:
    """The order of a body, as the route reads it."""
    text = body if isinstance(body, str) else json.dumps(body)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": text.encode(), "more_body": False}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    read = await read_json(Request(scope, receive), service.limits, BYTES_FORMAT)
    return await parse_order(service, CALLER, CARD, read, None, vertex=vertex)


async def asked(body: dict[str, Any] | str) -> GenerationRequest:
    """The request of a body without faults."""
    order = await ordered(body)
    judged = judge(order, CATALOGUE, POLICY)
    assert judged.violations == ()
    return order.request


async def fields_at_fault(body: dict[str, Any] | str) -> dict[str, str]:
    """Codes of the faults by Google's field, the card's included."""
    judged = judge(await ordered(body), CATALOGUE, POLICY)
    return {format_field_path(item.pointer): item.code for item in judged.violations}


def work(request: GenerationRequest) -> str:
    """What the cache knows the request by."""
    return compute_fingerprint(normalize_request(request, CARD), CARD, "t")


def inline(data: str, mime_type: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def turn(*parts: dict[str, Any] | str, role: str | None = "user") -> dict[str, Any]:
    """A content; strings are texts."""
    named = {"role": role} if role else {}
    return {**named, "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


PLAIN: dict[str, Any] = {
    "contents": [turn(inline(PNG), inline(WEBP, "image/webp"), "Draw them")],
    "systemInstruction": {"parts": [{"text": "Be calm"}], "role": "user"},
    "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"}],
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "seed": 7,
        "candidateCount": 1,
        "maxOutputTokens": 8000,
        "responseModalities": ["IMAGE"],
        "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": False},
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    },
}


def with_config(**config: Any) -> dict[str, Any]:
    return {**PLAIN, "generationConfig": {**PLAIN["generationConfig"], **config}}


async def test_what_our_words_say_completely_becomes_just_that() -> None:
    request = await asked(PLAIN)
    assert request.verbatim is None
    assert [(item.kind, item.mime_type) for item in request.inputs] == [
        ("image", "image/png"),
        ("image", "image/webp"),
    ]
    assert replace(request, images=(), body_bytes=0) == GenerationRequest(
        model=CARD.id,
        prompt="Draw them",
        system_instruction="Be calm",
        safety_settings=request.safety_settings,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        candidate_count=1,
        max_output_tokens=8000,
        response_modalities=("IMAGE",),
        thinking_level="HIGH",
        aspect_ratio="16:9",
        image_size="2K",
    )


def snake(value: Any) -> Any:
    """The same JSON with every field in its snake_case spelling."""
    if isinstance(value, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in name): snake(item)
            for name, item in value.items()
        }
    return [snake(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "other",
    [
        snake(PLAIN),
        {**PLAIN, "contents": PLAIN["contents"][0]},
        {**PLAIN, "contents": [turn(*PLAIN["contents"][0]["parts"], role=None)]},
        {**PLAIN, "cachedContent": None, "model": "models/other", "tools": [], "toolConfig": None},
        with_config(seed="7", maxOutputTokens=8000.0, responseModalities="IMAGE"),
        with_config(imageConfig={"aspectRatio": "16:9", "imageSize": "2k"}),
        {**PLAIN, "labels": {"team": "a"}},
        {**PLAIN, "serviceTier": "flex"},
        json.loads(json.dumps(PLAIN).replace(PNG, PNG.replace("+", "-").replace("/", "_").rstrip("="))),
    ],
    ids=["snake", "one content", "no role", "nulls", "proto numbers", "size", "labels", "tier", "url-safe"],
)
async def test_other_spellings_are_the_same_work(other: dict[str, Any]) -> None:
    assert work(await asked(other)) == work(await asked(PLAIN))


@pytest.mark.parametrize(
    "other",
    [
        {**PLAIN, "contents": [turn("Draw them", inline(PNG), inline(WEBP, "image/webp"))]},
        {**PLAIN, "contents": [turn(inline(PNG), inline(WEBP, "image/webp"), "Draw", "them")]},
        {**PLAIN, "contents": [turn("One"), turn("Two", role="model"), turn("Three")]},
        {**PLAIN, "contents": [turn({**inline(PNG), "mediaResolution": {"level": "LOW"}}, "Draw them")]},
        {**PLAIN, "systemInstruction": {"parts": [{"text": "Be"}, {"text": "calm"}]}},
        {**PLAIN, "contents": [turn({"text": "Draw them", "partMetadata": {"a_b": 1}})]},
        {**PLAIN, "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}},
        {**PLAIN, "safetySettings": [{"category": "HARM_CATEGORY_CIVIC_INTEGRITY", "threshold": "OFF"}]},
        with_config(thinkingConfig={"thinkingLevel": "HIGH", "includeThoughts": True}),
        with_config(thinkingConfig={"thinkingLevel": "HIGH", "thinkingBudget": 100}),
        with_config(imageConfig={"aspectRatio": "16:9", "imageSize": "2K", "personGeneration": "ALLOW_ALL"}),
        with_config(stopSequences=["x"]),
    ],
    ids=lambda body: " ".join(name for name in body if body[name] != PLAIN.get(name)),
)
async def test_whatever_says_more_goes_on_as_it_is_and_is_other_work(other: dict[str, Any]) -> None:
    request = await asked(other)
    assert request.verbatim is not None
    assert work(request) != work(await asked(PLAIN))
    assert work(request) == work(await asked(json.dumps(other, indent=3)))
    sent = b"".join(splice(request.verbatim.skeleton, request.verbatim.blobs))
    assert json.loads(sent) == other


async def test_labels_go_on_to_the_upstream() -> None:
    request = await asked({**PLAIN, "labels": {"team": "a", "two_words": "b"}})
    assert request.labels == (("team", "a"), ("two_words", "b"))
    assert request.verbatim is not None
    assert json.loads(request.verbatim.skeleton)["labels"] == {"team": "a", "two_words": "b"}


async def test_a_service_tier_is_heard_and_goes_on_in_a_body_that_is_kept() -> None:
    assert (await asked({**PLAIN, "serviceTier": "priority"})).service_tier == "priority"
    kept = await asked({**PLAIN, "service_tier": "Flex", "toolConfig": {"retrievalConfig": {}}})
    assert kept.service_tier == "flex"
    assert kept.verbatim is not None
    assert json.loads(kept.verbatim.skeleton)["serviceTier"] == "flex"
    assert (await asked({**PLAIN, "serviceTier": "unspecified"})).service_tier is None
    unheard_of = await fields_at_fault({**PLAIN, "serviceTier": "unheard-of"})
    assert unheard_of == {"service_tier": "unsupported_service_tier"}


async def test_signatures_keep_their_bytes_in_any_spelling_and_tell_conversations_apart() -> None:
    def spoken(signature: str) -> dict[str, Any]:
        picture = {**inline(PNG), "thoughtSignature": signature}
        return {"contents": [turn("One"), turn(picture, role="model"), turn("Two")]}

    spellings = [
        base64.b64encode(SIGNATURE).decode(),
        base64.urlsafe_b64encode(SIGNATURE).decode().rstrip("="),
    ]
    requests = [await asked(spoken(each)) for each in spellings]
    assert work(requests[0]) == work(requests[1])
    for request in requests:
        assert request.verbatim is not None
        assert SIGNATURE in request.verbatim.blobs.values()
    other = await asked(spoken(base64.b64encode(SIGNATURE + b"!").decode()))
    assert work(other) != work(requests[0])


async def test_a_long_conversation_may_have_more_signatures_than_files() -> None:
    signed = turn({"text": "Yes", "thoughtSignature": "AAAA"}, role="model")
    turns = [turn("Again"), signed] * (2 * LIMITS.inputs_max)
    assert (await asked({"contents": [*turns, turn("Last")]})).verbatim is not None


async def test_a_turn_without_a_role_is_the_users_and_says_so_to_the_upstream() -> None:
    """One of Google's two services has a default for the role, the other demands it."""
    spoken = [
        await asked(
            {"contents": [turn("One", role=role), turn("Two", role="model"), turn("Three", role=role)]}
        )
        for role in (None, "user")
    ]
    assert work(spoken[0]) == work(spoken[1])
    assert spoken[0].verbatim is not None
    sent = json.loads(spoken[0].verbatim.skeleton)["contents"]
    assert [content["role"] for content in sent] == ["user", "model", "user"]


@pytest.mark.parametrize(
    ("response_format", "ratio", "size"),
    [
        ({"image": {"aspectRatio": "16:9", "imageSize": "4K"}}, "16:9", "4K"),
        ({"image": {"aspectRatio": "9:21", "imageSize": "2K"}}, "9:21", "2K"),
        (
            {"image": {"aspectRatio": "ASPECT_RATIO_TWENTY_ONE_BY_NINE", "imageSize": "IMAGE_SIZE_FOUR_K"}},
            "21:9",
            "4K",
        ),
        (
            {"image": {"aspect_ratio": "ASPECT_RATIO_UNSPECIFIED", "image_size": "IMAGE_SIZE_FIVE_TWELVE"}},
            None,
            "512",
        ),
        ({"image": {"aspectRatio": "aspect_ratio_one_by_one", "imageSize": "image_size_one_k"}}, "1:1", "1K"),
        ({"image": {"aspectRatio": 9, "imageSize": 4}}, "16:9", "4K"),
    ],
)
async def test_the_newer_form_of_size_is_the_same_work_as_the_older(
    response_format: Any, ratio: str | None, size: str
) -> None:
    newer = {"contents": turn("Draw"), "generationConfig": {"responseFormat": response_format}}
    request = await asked(newer)
    assert (request.aspect_ratio, request.image_size) == (ratio, size)
    assert estimate(request, CARD).image_output == CARD.image_tokens(size)
    assert request.verbatim is None
    older = {"contents": turn("Draw"), "generationConfig": {"imageConfig": response_format["image"]}}
    assert work(await asked(older)) == work(request)
    kept = (await asked({**newer, "toolConfig": {}})).verbatim
    assert kept is not None
    image = {"imageSize": size, **({"aspectRatio": ratio} if ratio else {})}
    assert json.loads(kept.skeleton)["generationConfig"] == {"imageConfig": image}


async def test_a_picture_is_delivered_in_the_answer_alone() -> None:
    def delivered(delivery: str) -> dict[str, Any]:
        image = {"imageSize": "512", "delivery": delivery}
        return {"contents": turn("Draw"), "generationConfig": {"responseFormat": {"image": image}}}

    assert (await asked(delivered("inline"))).verbatim is None
    found = await fields_at_fault(delivered("URI"))
    assert found == {"generation_config.response_format[0].image.delivery": "unsupported_delivery"}


@pytest.mark.parametrize(
    ("tool", "expected", "shared"),
    [
        ({"googleSearch": {}}, Grounding(web_search=True), True),
        ({"google_search": {"search_types": {"image_search": {}}}}, Grounding(image_search=True), True),
        (
            {"googleSearch": {"searchTypes": {"webSearch": {}, "imageSearch": {}}}},
            Grounding(web_search=True, image_search=True),
            True,
        ),
        ({"googleSearch": {"timeRangeFilter": {}}}, Grounding(web_search=True), False),
        ({"functionDeclarations": [{"name": "f", "parameters": {"a_b": {}}}]}, Grounding(), False),
    ],
)
async def test_searches_are_understood_and_other_tools_go_on(
    tool: dict[str, Any], expected: Grounding, shared: bool
) -> None:
    order = await ordered({"contents": turn("Draw"), "tools": [tool]})
    assert order.request.grounding == expected
    assert (order.request.verbatim is None) == shared
    if expected == Grounding():
        assert order.cache == CacheDirective("bypass"), "nobody knows what such a tool reads"
        assert order.request.verbatim is not None
        assert json.loads(order.request.verbatim.skeleton)["tools"] == [tool]


async def test_a_size_in_another_spelling_goes_on_in_the_models() -> None:
    request = await asked(
        {"contents": turn("Draw", "it"), "generationConfig": {"imageConfig": {"imageSize": "512px"}}}
    )
    assert request.verbatim is not None
    assert json.loads(request.verbatim.skeleton)["generationConfig"]["imageConfig"]["imageSize"] == "512"


async def test_what_was_judged_is_what_is_sent() -> None:
    """A field twice could be read one way here and the other way behind."""
    twice = '{"contents": {"parts": [{"text": "a"}, {"text": "b"}]}, "generationConfig": %s, %s}'
    small, large = (json.dumps({"imageConfig": {"imageSize": size}}) for size in ("512", "4K"))
    found = await fields_at_fault(twice % (small, f'"generation_config": {large}'))
    assert found == {"generation_config": "given_twice"}
    request = await asked(twice % (large, f'"generationConfig": {small}'))
    assert request.verbatim is not None
    assert request.image_size == "512"
    assert b"4K" not in request.verbatim.skeleton
    both = {"imageConfig": {"imageSize": "512"}, "responseFormat": {"image": {"imageSize": "4K"}}}
    found = await fields_at_fault({"contents": turn("Draw"), "generationConfig": both})
    assert found == {"generation_config.response_format[0].image": "given_twice"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"contents": "empty_prompt"}),
        ({"contents": ["a fox"]}, {"contents[0]": "wrong_type", "contents[0].parts": "required"}),
        ({"contents": turn("A", role="robot")}, {"contents[0].role": "unknown_role"}),
        ({"contents": turn("A", {"inlineData": {"data": PNG}})}, {}),
        (
            {"contents": turn("A", {"fileData": {"fileUri": "gs://bucket/object"}})},
            {"contents[0].parts[1].file_data.mime_type": "mime_type_required"},
        ),
        (
            {"contents": turn("A", {"inlineData": {"mimeType": "image/png"}})},
            {"contents[0].parts[1].inline_data.data": "required"},
        ),
        (
            {"contents": turn("A", inline("not*base64"))},
            {"contents[0].parts[1].inline_data.data": "invalid_base64"},
        ),
        (
            {"contents": turn("A", inline("AAAAA"))},
            {"contents[0].parts[1].inline_data.data": "invalid_base64"},
        ),
        ({"contents": turn("A", inline(PNG, "image/gif"))}, {}),
        (
            {"contents": turn("A", inline(base64.b64encode(b"<html>").decode(), "image/png"))},
            {"contents[0].parts[1].inline_data": "unsupported_image_type"},
        ),
        (
            {"contents": turn("A", {"fileData": {"mimeType": "image/png"}})},
            {"contents[0].parts[1].file_data.file_uri": "required"},
        ),
        (
            {"contents": turn("A", {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/object"}})},
            {"contents[0].parts[1].file_data": "bucket_not_allowed"},
        ),
        (
            {
                "contents": [
                    turn("A"),
                    turn(
                        {"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/object"}}, role="model"
                    ),
                ]
            },
            {"contents[1].parts[0].file_data": "bucket_not_allowed"},
        ),
        ({"contents": turn("A"), "generationConfig": []}, {"generation_config": "wrong_type"}),
        (
            {"contents": turn("A"), "generationConfig": {"seed": 1.5}},
            {"generation_config.seed": "wrong_type"},
        ),
        (
            {"contents": turn("A"), "generationConfig": {"seed": True}},
            {"generation_config.seed": "wrong_type"},
        ),
        (
            {"contents": turn("A"), "generationConfig": {"temperature": "hot"}},
            {"generation_config.temperature": "wrong_type"},
        ),
        (
            {"contents": turn("A"), "generationConfig": {"topK": 40.5}},
            {"generation_config.top_k": "wrong_type"},
        ),
        (
            {"contents": turn("A"), "generationConfig": {"responseModalities": ["AUDIO"]}},
            {"generation_config.response_modalities": "unsupported_response_modalities"},
        ),
        (
            {"contents": turn("A"), "generationConfig": {"thinkingConfig": {"thinkingLevel": "XHIGH"}}},
            {"generation_config.thinking_config.thinking_level": "unsupported_thinking_level"},
        ),
        (
            {
                "contents": turn("A"),
                "generationConfig": {"imageConfig": {"imageOutputOptions": {"mimeType": "image/png"}}},
            },
            {f"{OUTPUT_OPTIONS}.mime_type": "output_mime_type_not_available"},
        ),
        (
            {
                "contents": turn("A"),
                "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "SOME"}],
            },
            {"safety_settings[0].threshold": "unsupported_safety_threshold"},
        ),
        ({"contents": turn("A"), "labels": {"a": 1}}, {"labels": "wrong_type"}),
    ],
)
async def test_faults_are_named_by_googles_fields(body: dict[str, Any], expected: dict[str, str]) -> None:
    assert expected.items() <= (await fields_at_fault(body)).items()


async def test_words_may_name_any_address() -> None:
    address = "gs://bucket/object"
    call = {"functionCall": {"name": "f", "args": {"fileUri": address}}}
    turns = [turn(address), turn("gs: no", call, role="model"), turn("Draw that")]
    request = await asked({"contents": turns})
    assert request.verbatim is not None


async def test_bits_behind_the_last_byte_change_nothing() -> None:
    signed = {"text": "B", "thoughtSignature": "AAB="}
    request = await asked({"contents": [turn("A"), turn(signed, role="model"), turn("C")]})
    assert request.verbatim is not None
    assert list(request.verbatim.blobs.values()) == [b"\0\0"]


@pytest.mark.parametrize("name", RECORDED)
async def test_every_sdk_means_the_same_by_the_same_arguments(name: str) -> None:
    """Recorded requests of Python and Node, in both modes, differ in spelling alone."""
    bodies = [RECORDED[each] for each in (name, "node-gemini-everything")]
    requests = [await asked({**body, "serviceTier": "flex"}) for body in bodies]
    assert work(requests[0]) == work(requests[1])
    assert requests[0].grounding == Grounding(web_search=True, image_search=True)
    assert (requests[0].aspect_ratio, requests[0].image_size) == ("16:9", "512")
    assert requests[0].labels == (("team", "a"),)


def test_names_fold_as_protobufs_json_does() -> None:
    names = {"image_size": "imageSize", "imageSize": "imageSize", "top_p": "topP", "a_1b": "a1b", "_": "_"}
    assert {name: convert_to_camel_case(name) for name in names} == names
