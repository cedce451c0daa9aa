"""Files in Google's dialect: judged and reserved alike, whoever's turn they stand in and wherever in it."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.estimate import estimate
from app.generation.job import judge
from app.media.splicing import splice
from tests.media.files import IDAT, IEND, chunk, ihdr, png, video
from tests.surfaces.test_gemini_request import (
    CARD,
    CATALOGUE,
    PNG,
    POLICY,
    SIGNATURE,
    asked,
    fields_at_fault,
    inline,
    ordered,
    turn,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FILM = base64.b64encode(video(2)).decode()
NOISE = base64.b64encode(bytes(range(128, 256))).decode()
JUNK = base64.b64encode(b"junk\xff" * 9).decode()
LARGE = base64.b64encode(
    png(ihdr(9, 9), chunk(b"tEXt", bytes(CARD.images.inline_bytes_max)), IDAT, IEND)
).decode()
SIGNED = {"thoughtSignature": base64.b64encode(SIGNATURE).decode()}


@pytest.mark.parametrize("own", [SIGNED, {"thought": True}, {**SIGNED, "thought": False}])
async def test_pictures_of_the_model_are_no_references_but_are_judged_and_paid_for(
    own: dict[str, Any],
) -> None:
    body = {"contents": [turn("One"), turn({**inline(PNG), **own}, role="model"), turn(inline(PNG), "Two")]}
    request = await asked(body)
    assert [item.drawn for item in request.images] == [True, False]
    assert estimate(request, CARD).image_input == 2 * CARD.images.tokens_each
    assert request.prompt == "One\nTwo"
    many = [turn("Again"), turn({**inline(PNG), **own}, role="model")] * (CARD.images.count_max + 1)
    assert len((await asked({"contents": [*many, turn("Last")]})).images) == CARD.images.count_max + 1
    junk = turn({**inline(JUNK), **own}, role="model")
    found = await fields_at_fault({"contents": [turn("One"), junk, turn("Two")]})
    assert found == {"contents[1].parts[0].inline_data": "unsupported_image_type"}


async def test_no_signature_makes_a_film_a_picture_or_a_users_picture_the_models() -> None:
    film = turn({**inline(FILM, "image/png"), **SIGNED}, role="model")
    judged = await asked({"contents": [turn("One"), film, turn("Two")]})
    assert ([item.drawn for item in judged.videos], judged.images) == ([False], ())
    offered = turn(*[{**inline(PNG), **SIGNED}] * (CARD.images.count_max + 1), "Draw")
    assert "too_many_images" in (await fields_at_fault({"contents": offered})).values()
    empty = turn(*[{**inline(PNG), "thoughtSignature": ""}] * (CARD.images.count_max + 1), role="model")
    found = await fields_at_fault({"contents": [turn("One"), empty, turn("Two")]})
    assert "too_many_images" in found.values()


@pytest.mark.parametrize("own", [SIGNED, {}])
async def test_a_large_picture_of_the_model_comes_back_and_a_large_reference_does_not(
    own: dict[str, Any],
) -> None:
    drawn = turn({**inline(LARGE), **own}, role="model")
    found = await fields_at_fault({"contents": [turn("One"), drawn, turn("Two")]})
    assert found == ({} if own else {"contents[1].parts[0].inline_data": "image_too_large"})


def in_a_turn_of(role: str) -> Callable[[list[Any]], dict[str, Any]]:
    return lambda parts: {"contents": [turn("A"), turn(*parts, role=role), turn("B")]}


def returned(parts: list[Any]) -> dict[str, Any]:
    answer = {"functionResponse": {"name": "f", "response": {}, "parts": parts}}
    return {"contents": [turn("A", answer), turn("B")]}


def in_the_instruction(parts: list[Any]) -> dict[str, Any]:
    return {"contents": turn("A"), "systemInstruction": turn("Be calm", *parts)}


PLACES: dict[str, Callable[[list[Any]], dict[str, Any]]] = {
    "user": in_a_turn_of("user"),
    "model": in_a_turn_of("model"),
    "function": in_a_turn_of("function"),
    "function response": returned,
    "system instruction": in_the_instruction,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([inline(JUNK)], "unsupported_image_type"),
        ([inline(NOISE)], "unknown_image_type"),
        ([inline(NOISE, "application/octet-stream")], "unknown_document_type"),
        ([inline(FILM, "video/mp4")], "preview_not_allowed"),
        ([inline(FILM, "image/png")], "preview_not_allowed"),
        ([inline(PNG)] * (CARD.images.count_max + 1), "too_many_images"),
        ([{"fileData": {"mimeType": "image/png", "fileUri": "gs://bucket/object"}}], "bucket_not_allowed"),
        ([{"fileData": {"mimeType": "video/mp4", "fileUri": "gs://bucket/a"}}], "preview_not_allowed"),
        ([{"fileData": {"mimeType": "image/png", "fileUri": "https://a.test/files/1"}}], "invalid_address"),
        ([inline(LARGE)], "image_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_file_is_judged_wherever_it_stands(place: str, parts: list[Any], code: str) -> None:
    order = await ordered(PLACES[place](parts))
    caller = replace(order.caller, key=replace(order.caller.key, preview=frozenset()))
    judged = judge(replace(order, caller=caller), CATALOGUE, POLICY)
    assert code in {item.code for item in judged.violations}


@pytest.mark.parametrize("place", PLACES)
async def test_a_file_is_reserved_wherever_it_stands(place: str) -> None:
    request = await asked(PLACES[place]([inline(PNG), inline(FILM, "video/mp4"), inline(PNG)]))
    reserved = estimate(request, CARD)
    assert reserved.image_input == 2 * CARD.images.tokens_each
    assert reserved.video_input >= CARD.video.tokens_per_second
    assert request.verbatim is not None
    sent = b"".join(splice(request.verbatim.skeleton, request.verbatim.blobs))
    assert sent.count(PNG.encode()) == 2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "claim",
    [
        "image/jpeg",
        "image/gif",
        "png",
        "application/octet-stream",
        "binary/x",
        "application/pdf",
        "video/mp4",
    ],
)
async def test_a_picture_is_one_whatever_it_is_called_and_is_sent_under_its_own_type(
    place: str, claim: str
) -> None:
    request = await asked(PLACES[place]([inline(PNG, claim), inline(PNG)]))
    assert [(item.kind, item.mime_type) for item in request.images] == [("image", "image/png")] * 2
    rightly = await asked(PLACES[place]([inline(PNG), inline(PNG)]))
    assert request.verbatim is not None
    assert rightly.verbatim is not None
    assert request.verbatim.skeleton.count(b'"mimeType": "image/png"') == 2
    assert request.verbatim.identity == rightly.verbatim.identity
