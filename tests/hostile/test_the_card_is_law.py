"""Every rule of the card through the real service: what it accepts is quoted, what it refuses is named."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.validation import RULES
from tests.domain.validation_cases import ANYTHING, BAD, CARD, GOOD, PRO, STORAGE, Bad, Good
from tests.fixtures import file_bytes, image_bytes
from tests.hostile.conftest import PIXELS_MAX_OF_THE_PLAIN_ONE, Caller, rights_of
from tests.hostile.served import VARIATIONS
from tests.media.files import IDAT, IEND, MDAT, animated, encoded, ftyp, ihdr, ispe, meta, png, video
from tests.media.films import audio, flv, flv_metadata, flv_tag
from tests.media.pdf_files import locked, padded

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.request import GenerationRequest, Input
    from tests.hostile.conftest import Tenants

NOT_JSON = {"invalid_text", "nan"}
"""Refused before any rule sees it: JSON in UTF-8 has no half surrogates, and no number that is none."""

CANNOT_BE_SAID = {
    "missing_input": "an input without source is one_source",
    "ambiguous_input": "an input of two sources is one_source",
    "duplicate_label": "a JSON object has every name once",
    "unpriced_member": "only bodies in Google's words have members that an operator allows",
}
AT_THE_DOOR = {"document_too_large": ("input_too_large", "/documents/0/data")}
"""Base64 that is too long for any card is given up while it streams in, by its own name."""

PLAIN = {"output_mime_type_not_available", "output_compression_quality_not_available"}
PLAIN |= {"address_not_available"}
FILES = {
    "image/png": encoded("PNG", 9, 9),
    "image/jpeg": encoded("JPEG", 9, 9),
    "image/webp": encoded("WEBP", 9, 9),
    "image/heic": ftyp(b"heic") + meta(ispe(9, 9)) + MDAT,
    "image/heif": ftyp(b"mif1", b"heic") + meta(ispe(9, 9)) + MDAT,
    "image/avif": ftyp(b"avif") + meta(ispe(9, 9)) + MDAT,
    "image/gif": encoded("GIF", 9, 9),
    "image/bmp": encoded("BMP", 9, 9),
    "image/tiff": encoded("TIFF", 9, 9),
    "application/pdf": padded(1, 2000),
    "application/zip": b"PK\x03\x04" + bytes(30),
    "video/mp4": video(2),
    "video/quicktime": video(2, b"qt  "),
    "video/3gpp": video(2, b"3gp5"),
    "video/webm": file_bytes("v-webm.webm"),
    "video/x-matroska": file_bytes("v-mkv.mkv"),
    "video/avi": file_bytes("v-avi.avi"),
    "video/mpeg": file_bytes("v-mpg.mpg"),
    "video/wmv": file_bytes("v-wmv.wmv"),
    "video/x-flv": flv(flv_metadata(2), flv_tag(9, 0)),
    "video/ogg": b"OggS\x00" + bytes(30),
    "audio/mp4": ftyp(b"M4A ") + audio(2),
    None: b"\x01\x02\x03\xff\xfe",
}


FAULTY = {
    "truncated_image": image_bytes("harbour-truncated.jpg"),
    "truncated_document": file_bytes("d-cut.pdf"),
    "truncated_video": ftyp(b"isom") + MDAT,
    "unreadable_image": png(ihdr(0, 9), IDAT, IEND),
    "unreadable_document": "A fox".encode("utf-16"),
    "unreadable_video": audio(2),
    "encrypted_document": locked(),
    "empty_file": b"",
}


def file_of(item: Input) -> bytes:
    """A real file with the facts that the case gives its input."""
    if item.faults or item.frames > 1:
        return FAULTY[item.faults[0][0]] if item.faults else animated("PNG", item.frames)
    if item.mime_type == "application/pdf" and item.kind == "document":
        pages = item.pages or 1
        return padded(pages, max(item.length, 500 + 200 * pages))
    if item.seconds:
        return video(item.seconds)
    if item.width and item.height:
        return png(ihdr(item.width, item.height), IDAT, IEND)
    if item.mime_type == "text/plain":
        return b"a" * item.length
    return FILES[item.mime_type].ljust(item.length, b"\x00")


def reference(item: Input) -> dict[str, Any]:
    """One input in the native dialect."""
    found: dict[str, Any] = {"mime_type": item.declared_mime_type} if item.declared_mime_type else {}
    if item.uri is not None:
        return {**found, "uri": item.uri}
    return {**found, "data": base64.b64encode(file_of(item)).decode()}


def body_of(request: GenerationRequest, card: Card) -> bytes:
    """The request in the native dialect; the model is named as the gateway of the tests knows the card."""
    model = next((name for name, varied in VARIATIONS.items() if varied is card), card.id)
    plain = (
        "prompt", "aspect_ratio", "image_size", "n", "output_mime_type", "output_compression_quality",
        "temperature", "top_p", "top_k", "candidate_count", "seed", "max_output_tokens", "thinking_level",
        "system_instruction", "variant", "service_tier",
    )  # fmt: skip
    members: dict[str, Any] = {name: getattr(request, name) for name in plain}
    members |= {
        "model": model,
        "images": [reference(item) for item in request.images],
        "documents": [reference(item) for item in request.documents],
        "videos": [reference(item) for item in request.videos],
        "response_modalities": list(request.response_modalities),
        "safety_settings": [
            {"category": item.category, "threshold": item.threshold} for item in request.safety_settings
        ],
        "grounding": {
            "web_search": request.grounding.web_search,
            "image_search": request.grounding.image_search,
        },
        "labels": dict(request.labels),
    }
    return json.dumps(members).encode()


def _sayable(case: Good | Bad) -> bool:
    """Conversations are begun and gone on with in tests/server/test_conversations.py."""
    of_a_gateway_without_buckets = case.policy == STORAGE
    made_up = getattr(case, "code", "") in CANNOT_BE_SAID or case.request.earlier is not None
    return not made_up and not of_a_gateway_without_buckets


def _is_json(case: Bad) -> bool:
    text = body_of(case.request, case.card)
    return not any(word in text for word in (b"NaN", b"Infinity", b"\\ud83e", b"\\udd8a", b"\\ud800"))


QUOTED = [case for case in GOOD if _sayable(case)]
SAID = [case for case in BAD if _sayable(case)]
NAMED = [case for case in SAID if _is_json(case)]
UNREAD = [case for case in SAID if not _is_json(case)]


@pytest.fixture
def callers(request: pytest.FixtureRequest, caller: Caller, tenants: Tenants) -> Any:
    """Who sends a case, by the case's policy."""

    def caller_of(case: Good | Bad) -> Caller:
        key = tenants.keys[rights_of(case.policy)]
        few_pixels = case.policy.request.input_pixels_max == PIXELS_MAX_OF_THE_PLAIN_ONE
        if few_pixels or getattr(case, "code", "") in PLAIN:
            plain = request.getfixturevalue("plain_gateway")
            return replace(caller, gateway=plain, http=request.getfixturevalue("plain_http"), key=key)
        return replace(caller, key=key)

    return caller_of


@pytest.mark.parametrize("case", QUOTED, ids=lambda case: f"{case.rule}-{GOOD.index(case)}")
def test_what_the_card_allows_is_quoted(callers: Any, case: Good) -> None:
    caller = callers(case)
    answer = caller.send("/v1/images:estimate", body_of(case.request, case.card))
    quote = answer.json()
    assert (answer.status_code, quote.get("violations")) == (200, [])
    assert quote["valid"]
    assert quote["estimate"]["image_tokens"] == case.request.n * case.card.image_tokens(
        quote["effective"]["image_size"]
    )


@pytest.mark.parametrize("case", NAMED, ids=lambda case: f"{case.code}-{BAD.index(case)}")
def test_what_the_card_forbids_is_named_and_costs_nothing(callers: Any, case: Bad) -> None:
    caller, body = callers(case), body_of(case.request, case.card)
    before = caller.spent()
    quote = caller.send("/v1/images:estimate", body).json()
    answer = caller.send("/v1/images:generate", body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "validation_failed"), problem
    assert not quote["valid"]
    for found in (quote["violations"], problem["violations"]):
        expected = AT_THE_DOOR.get(case.code, (case.code, case.pointer))
        assert [(item["code"], item["pointer"]) for item in found] == [expected]
    assert caller.spent() == before


@pytest.mark.parametrize("case", UNREAD, ids=lambda case: f"{case.code}-{BAD.index(case)}")
def test_what_is_no_json_in_utf_8_is_no_request(callers: Any, case: Bad) -> None:
    answer = callers(case).send("/v1/images:generate", body_of(case.request, case.card))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_every_rule_is_met_through_the_service() -> None:
    names = {rule.__name__.removeprefix("check_") for rule in RULES}
    assert {case.rule for case in GOOD} == names
    assert {case.rule for case in NAMED} == names - {"conversation", "earlier_addresses", "prices"}
    left_out = {case.code for case in BAD} - {case.code for case in NAMED}
    assert left_out == {*CANNOT_BE_SAID, "invalid_text", "other_model"}


def test_other_models_are_held_to_their_own_cards() -> None:
    assert {case.card.id for case in NAMED} >= {CARD.id, PRO.id}
    policies = [case.policy for case in NAMED]
    assert ANYTHING in policies
    assert any(policy != ANYTHING for policy in policies)
