"""The walk over a body in Google's dialect: nothing unknown passes at any depth, what passes is reserved."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.requests import Request

from app.domain.errors import ValidationFailed
from app.domain.estimate import estimate
from app.domain.request import CacheDirective
from app.domain.validation import normalize_request
from app.generation.job import judge
from app.surfaces.gemini.fields import format_field_path
from app.surfaces.gemini.members import COUNT, GENERATE, Enumeration, Leaf
from app.surfaces.gemini.request import parse_count_request
from app.surfaces.gemini.routes import BYTES_FORMAT
from app.surfaces.http.body import read_json
from tests.media.files import video
from tests.surfaces.test_gemini_request import (
    CARD,
    CATALOGUE,
    LIMITS,
    PNG,
    POLICY,
    asked,
    fields_at_fault,
    inline,
    ordered,
    snake,
    turn,
    with_config,
    work,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.request import GenerationRequest
    from app.surfaces.gemini.members import Shape
    from app.surfaces.http.context import Service

REPEATED = {"contents", "parts", "tools", "safetySettings", "functionDeclarations", "responseFormat"}
DRAW: dict[str, Any] = {"contents": [turn("Draw")]}


async def counted(body: dict[str, Any], *, vertex: bool = False) -> GenerationRequest:
    """What countTokens reads."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    service = cast("Service", SimpleNamespace(limits=LIMITS))
    read = await read_json(Request(scope, receive), LIMITS, BYTES_FORMAT)
    return await parse_count_request(service, CARD, read, vertex=vertex)


def messages(shape: Shape, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every message of a body, by the names that lead to it."""
    if not isinstance(shape, Leaf | Enumeration):
        yield path
        for name, inner in shape.items():
            yield from messages(inner, (*path, name))


def around(path: tuple[str, ...], value: Any, *, lists: bool) -> Any:
    """A body with this value at a path, what is repeated in a list or, as Google takes it too, without."""
    for name in reversed(path):
        value = {name: [value] if lists and name in REPEATED else value}
    return value


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("name", ["newMember", "new_member", "mcpServers", "mcp_servers"])
@pytest.mark.parametrize("path", list(messages(GENERATE[False])), ids=".".join)
async def test_an_unknown_member_is_refused_by_name_at_every_depth(
    path: tuple[str, ...], name: str, lists: bool
) -> None:
    body = around(path, {name: {"a": 1}}, lists=lists)
    whole = {**DRAW, **body}
    found = [item for item in (await ordered(whole)).violations if item.code == "unknown_field"]
    assert len(found) == 1
    assert format_field_path(found[0].pointer).endswith(snake({name: 0}).popitem()[0])
    accepted = GENERATE[False]
    for step in path:
        accepted = cast("Any", accepted[step])
    assert found[0].allowed == (tuple(sorted(accepted)) or None)


@pytest.mark.parametrize("value", ["x" * 1000, 1, True, [[{}]], [None], [{}]])
@pytest.mark.parametrize("path", list(messages(GENERATE[False]))[1:], ids=".".join)
async def test_what_is_no_message_is_refused_where_one_belongs(path: tuple[str, ...], value: Any) -> None:
    """Nothing is passed on that was not walked through."""
    if value == [{}] and path[-1] in REPEATED:
        return
    whole = {**DRAW, **around(path, value, lists=True)}
    found = {item.code for item in (await ordered(whole)).violations}
    assert "wrong_type" in found


@pytest.mark.parametrize("path", list(messages(COUNT[True])), ids=".".join)
async def test_an_unknown_member_is_refused_when_tokens_are_counted(path: tuple[str, ...]) -> None:
    body = {**DRAW, **around(path, {"new_member": 1}, lists=False)}
    with pytest.raises(ValidationFailed) as refused:
        await counted(body, vertex=True)
    assert "unknown_field" in {item.code for item in refused.value.violations}


async def test_a_body_of_thousands_of_unknown_members_is_not_answered_by_a_book() -> None:
    body = {**DRAW, "tools": [{f"tool{number}": {}} for number in range(900)]}
    found = (await ordered(body)).violations
    assert len(found) == 900
    assert sum(item.allowed is not None for item in found) == 50


async def test_an_endless_name_is_cut_short_where_it_is_refused() -> None:
    found = await fields_at_fault({**DRAW, "n/" * 5000: 1})
    assert list(found.values()) == ["unknown_field"]
    assert all(len(field) < 100 for field in found)


@pytest.mark.parametrize("spelling", [dict, snake])
async def test_an_operator_lets_further_members_pass_and_their_words_are_reserved(spelling: Any) -> None:
    members = {"tools.urlContext": "unpriced", "contents.parts.toolCall": "0/call"}
    limits = LIMITS.model_copy(update={"gemini_extra_members": members})
    service = cast("Service", SimpleNamespace(limits=limits))
    call = {"toolCall": {"id": "x" * 300}}
    body = {"contents": [turn("Draw"), turn(call, role="model"), turn("A")], "tools": [{"urlContext": {}}]}
    order = await ordered(spelling(body), service=service)
    assert judge(order, CATALOGUE, POLICY).violations == ()
    assert order.cache == CacheDirective("bypass"), "nobody knows what such a tool reads"
    assert order.request.verbatim is not None
    sent = json.loads(order.request.verbatim.skeleton)
    assert (sent["contents"][1]["parts"], sent["tools"]) == ([call], body["tools"])
    assert estimate(order.request, CARD).text_input > 100
    assert {item.code for item in (await ordered(body)).violations} == {"unknown_field"}


@pytest.mark.parametrize(
    ("price", "tokens"), [("20000/call", 2 * 20_000), ("3/byte", 3 * 2 * len('{"a": 1}'))]
)
async def test_the_price_of_an_operators_member_is_reserved(price: str, tokens: int) -> None:
    async def reserved(price: str) -> tuple[int, int]:
        members = {"contents.parts.toolCall": price}
        limits = LIMITS.model_copy(update={"gemini_extra_members": members})
        service = cast("Service", SimpleNamespace(limits=limits))
        call = {"toolCall": {"a": 1}}
        body = {"contents": [turn("Draw"), turn(call, call, role="model"), turn("A")]}
        request = (await ordered(body, service=service)).request
        return estimate(request, CARD).text_input, estimate(request, CARD, strict=True).text_input

    plain, priced = await reserved("unpriced"), await reserved(price)
    assert [after - before for before, after in zip(plain, priced, strict=True)] == [tokens, tokens]


WORDS = "狐" * 1000
"""3000 bytes in UTF-8."""


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"functionDeclarations": [{"name": "f", "description": WORDS}]}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"properties": {WORDS: {}}}}]}]},
        {"tools": {"function_declarations": {"name": "f", "parameters_json_schema": {"title": WORDS}}}},
        {"tools": [{"googleSearch": {"excludeDomains": [WORDS]}}]},
        {"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": [WORDS]}}},
        {"systemInstruction": turn(WORDS)},
        {"systemInstruction": turn({"functionCall": {"name": WORDS}})},
        {"generationConfig": {"responseSchema": {"description": WORDS}}},
        {"generationConfig": {"responseJsonSchema": {"description": WORDS}}},
        {"generationConfig": {"stopSequences": [WORDS]}},
        *(
            {"contents": [turn("Draw"), turn(part, role=role), turn("A")]}
            for role in ("user", "model", "function")
            for part in (
                {"text": WORDS},
                {"text": WORDS, "thought": True},
                {"functionCall": {"name": "f", "args": {"a": [{"b": WORDS}]}}},
                {"functionResponse": {"name": "f", "response": {WORDS: 1}}},
                {
                    "function_response": {
                        "name": "f",
                        "response": {"data": base64.b64encode(bytes(2250)).decode()},
                    }
                },
                {"executableCode": {"language": "PYTHON", "code": WORDS}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": WORDS}},
                {"partMetadata": {"a": WORDS}},
                {**inline(PNG), "inlineData": {**inline(PNG)["inlineData"], "displayName": WORDS}},
            )
        ),
    ],
    ids=lambda more: json.dumps(more, ensure_ascii=False).replace(WORDS, "…")[:60],
)
async def test_whatever_words_a_body_holds_are_reserved(more: dict[str, Any]) -> None:
    body = {**DRAW, **more}
    order = await ordered(body)
    assert order.violations == ()
    lenient, strict = estimate(order.request, CARD), estimate(order.request, CARD, strict=True)
    searched = 10_000 if lenient.search_queries else 0
    assert 1000 <= lenient.text_input - searched <= 1100
    assert strict.text_input >= 3000
    assert estimate(await counted({"generateContentRequest": body}), CARD).text_input == lenient.text_input


async def test_more_words_than_the_model_reads_are_refused_wherever_they_stand() -> None:
    declared = [{"name": "f", "description": "a" * 400_000}]
    service = cast(
        "Service", SimpleNamespace(limits=LIMITS.model_copy(update={"light_bytes_max": 1_000_000}))
    )
    order = await ordered({**DRAW, "tools": [{"functionDeclarations": declared}]}, service=service)
    assert [item.code for item in judge(order, CATALOGUE, POLICY).violations] == ["input_tokens_over_limit"]


FILM = inline(base64.b64encode(video(2)).decode(), "video/mp4")


@pytest.mark.parametrize(
    ("file", "more", "config", "times"),
    [
        (inline(PNG), {"mediaResolution": {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}}, {}, 2),
        (inline(PNG), {"media_resolution": {"level": "media_resolution_ultra_high"}}, {}, 2),
        (inline(PNG), {"mediaResolution": {"level": 4}}, {}, 2),
        (inline(PNG), {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}, {}, 0.25),
        (inline(PNG), {}, {"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"}, 0.5),
        (inline(PNG), {"mediaResolution": {"level": "MEDIA_RESOLUTION_EXTREME"}}, {}, 2),
        (inline(PNG), {"mediaResolution": {"level": 9}}, {}, 2),
        (inline(PNG), {"mediaResolution": {"level": 0}}, {"mediaResolution": 4}, 2),
        (FILM, {}, {"mediaResolution": "extreme"}, 8),
        (FILM, {"mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}, {}, 4),
        (FILM, {}, {"mediaResolution": "MEDIA_RESOLUTION_HIGH"}, 4),
        (FILM, {"mediaResolution": {"level": 1}}, {"mediaResolution": 3}, 1),
        (FILM, {"videoMetadata": {"fps": 24}}, {}, 24),
        (FILM, {"video_metadata": {"fps": 2.5, "startOffset": "1s"}}, {}, 2.5),
        (FILM, {"videoMetadata": {"fps": 0.1}}, {}, 1),
        (FILM, {"videoMetadata": {"fps": 3}, "mediaResolution": {"level": 3}}, {}, 12),
    ],
)
async def test_a_file_that_is_read_more_closely_is_reserved_so(
    file: dict[str, Any], more: dict[str, Any], config: dict[str, Any], times: float
) -> None:
    async def reserved(part: dict[str, Any], config: dict[str, Any]) -> int:
        body = {"contents": [turn(part, "Draw")], "generationConfig": config}
        found = estimate(await asked(body), CARD)
        return found.image_input + found.video_input

    assert await reserved({**file, **more}, config) == times * await reserved(file, {})


@pytest.mark.parametrize("fps", [0, -1, 24.5, 1e300])
async def test_a_frame_rate_that_google_does_not_take_is_refused(fps: float) -> None:
    found = await fields_at_fault({"contents": turn({**FILM, "videoMetadata": {"fps": fps}}, "Draw")})
    assert found == {"contents[0].parts[0].video_metadata.fps": "fps_out_of_range"}


async def test_a_thinking_budget_is_reserved() -> None:
    def thinking(**config: Any) -> dict[str, Any]:
        return with_config(thinkingConfig=config, maxOutputTokens=32_768)

    assert estimate(await asked(thinking()), CARD).text_output < 20_000
    assert estimate(await asked(thinking(thinking_budget="20000")), CARD).text_output == 20_000
    both = thinking(thinkingLevel="HIGH", thinkingBudget=100)
    assert estimate(normalize_request(await asked(both), CARD), CARD).text_output > 100, (
        "what is usual is reserved all the same"
    )


def spelt(**config: Any) -> dict[str, Any]:
    """A body with this config."""
    return {**DRAW, "generationConfig": config}


@pytest.mark.parametrize(
    ("spellings", "vertex"),
    [
        ([spelt(responseModalities=each) for each in (["TEXT", "IMAGE"], ["Text", "Image"], [1, 2])], False),
        (
            [spelt(responseModalities=each) for each in (["IMAGE"], ["Image"], ["image"], "IMAGE", [2], 2)],
            True,
        ),
        (
            [
                spelt(thinkingConfig={"thinkingLevel": each, "includeThoughts": True})
                for each in ("HIGH", "high", "High", 3)
            ],
            False,
        ),
        ([spelt(thinkingConfig={"thinkingLevel": each}) for each in ("MINIMAL", "minimal", 4)], True),
        (
            [
                {**DRAW, "safetySettings": [{"category": category, "threshold": threshold}]}
                for category, threshold in (
                    ("HARM_CATEGORY_HARASSMENT", "BLOCK_NONE"),
                    ("harm_category_harassment", "Block_None"),
                    (7, 4),
                )
            ],
            False,
        ),
        (
            [
                {
                    **DRAW,
                    "safetySettings": [{"category": category, "threshold": threshold, "method": method}],
                }
                for category, threshold, method in (
                    ("HARM_CATEGORY_HARASSMENT", "OFF", "SEVERITY"),
                    (3, 5, 1),
                    ("Harm_Category_Harassment", "off", "Severity"),
                )
            ],
            True,
        ),
        (
            [
                spelt(imageConfig={"imageSize": "2K", "personGeneration": each})
                for each in ("ALLOW_ADULT", "allow_adult", 2)
            ],
            True,
        ),
        (
            [
                spelt(imageConfig={"aspectRatio": ratio, "imageSize": size})
                for ratio, size in (
                    ("16:9", "2K"),
                    ("ASPECT_RATIO_SIXTEEN_BY_NINE", "IMAGE_SIZE_TWO_K"),
                    (9, "image_size_two_k"),
                )
            ],
            False,
        ),
    ],
)
async def test_an_enumeration_is_read_by_name_in_any_case_and_by_number(
    spellings: list[dict[str, Any]], vertex: bool
) -> None:
    """As protobuf's JSON has it; the canonical word goes on, so that every back end understands it."""
    orders = [await ordered(body, vertex=vertex) for body in spellings]
    assert [judge(order, CATALOGUE, POLICY).violations for order in orders] == [()] * len(orders)
    assert len({work(order.request) for order in orders}) == 1
    assert len({str(estimate(normalize_request(order.request, CARD), CARD)) for order in orders}) == 1
    lights = {
        json.dumps(json.loads(each.request.verbatim.skeleton)) for each in orders if each.request.verbatim
    }
    assert len(lights) <= 1


async def test_a_part_holds_one_thing() -> None:
    found = await fields_at_fault({"contents": [turn({"text": "Draw", **inline(PNG)})]})
    assert found == {"contents[0].parts[0]": "ambiguous_part"}
