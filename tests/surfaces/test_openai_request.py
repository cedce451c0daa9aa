"""OpenAI's fields in native words."""

from __future__ import annotations

import io
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile

from app.cards import load_catalogue
from app.domain.end_user import build_end_user
from app.domain.errors import Violation
from app.domain.policy import PIXELS_MAX
from app.domain.tenancy import Caller
from app.generation.conversations import CannotContinue
from app.surfaces.http.body import FormBody, JsonBody
from app.surfaces.openai.request import (
    ParsedRequest,
    parse_form_request,
    parse_json_request,
    translate_violations,
)
from app.surfaces.openai.wire import OpenAIImageEdit, OpenAIImageGeneration
from tests.fixtures import image_bytes

if TYPE_CHECKING:
    from app.domain.conversation import Earlier
    from app.domain.tenancy import Key, Tenant
    from app.surfaces.http.context import Service

CATALOGUE = load_catalogue()
LIMITS = {"default_model": "gemini-3.1-flash-image", "input_bytes_max": 10**7, "input_pixels_max": PIXELS_MAX}
LIMITS |= {"inputs_max": 64, "has_format_choice": True, "openai_formats": "exact"}


async def nothing_earlier(_tenant_id: str, _generation_id: str) -> Earlier:
    raise CannotContinue("unknown_generation", "There is no such generation.")


SERVICE = cast(
    "Service",
    SimpleNamespace(
        gateway=SimpleNamespace(
            catalogue=CATALOGUE, conversations=SimpleNamespace(load_earlier=nothing_earlier)
        ),
        limits=SimpleNamespace(**LIMITS),
        identify_user=partial(build_end_user, b"pepper"),
    ),
)
CALLER = Caller(cast("Tenant", SimpleNamespace(id="a")), cast("Key", None))

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
WORDS = st.sampled_from(
    ["auto", "low", "max", "512x512", "0x0", "9x99999", "url", "uri", "png", "svg", "opaque", "nano-banana-2"]
)
VALUES = st.recursive(
    LEAVES | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.dictionaries(
    st.sampled_from(sorted(set(OpenAIImageGeneration.model_fields) - {"images", "documents", "videos"})),
    VALUES,
    max_size=8,
)
FIELDS = st.dictionaries(
    st.builds(
        "".join,
        st.tuples(
            st.sampled_from(sorted(OpenAIImageEdit.model_fields)),
            st.sampled_from(["", "[]", "[a]", "[a][b]"]),
        ),
    ),
    st.lists(st.text(max_size=20) | WORDS, min_size=1, max_size=2),
    max_size=8,
)


async def asked(**members: Any) -> ParsedRequest:
    return await parse_json_request(SERVICE, CALLER, JsonBody({"prompt": "x", **members}, {}), None)


async def form(fields: dict[str, list[str]], *parts: str) -> ParsedRequest:
    files: dict[str, list[UploadFile]] = {}
    for name in parts:
        data = io.BytesIO(image_bytes("harbour.png"))
        files.setdefault(name, []).append(UploadFile(data, filename="upload", headers=Headers()))
    return await parse_form_request(SERVICE, CALLER, FormBody({"prompt": ["x"], **fields}, files), None)


def faults(asked: ParsedRequest) -> set[tuple[str, str]]:
    return {(item.pointer, item.code) for item in asked.order.violations}


async def test_nothing_but_a_prompt_is_the_native_request_of_nothing_but_a_prompt() -> None:
    request = (await asked()).order.request
    assert (request.aspect_ratio, request.image_size, request.n) == (None, None, 1)
    assert (request.output_mime_type, request.safety_settings, request.labels) == (None, (), ())


async def test_null_is_left_out_under_names_that_are_known() -> None:
    known = await asked(n=None, size=None, mask=None, labels=None, stream=None)
    assert not known.order.violations
    assert not known.stream
    assert faults(await asked(colour=None)) == {("/colour", "unknown_field")}


@pytest.mark.parametrize(
    ("quality", "size"),
    [("low", "512"), ("medium", "1K"), ("high", "2K"), ("xhigh", "4K"), ("max", "4K"), ("standard", "1K"),
     ("hd", "2K"), ("auto", None)],
)  # fmt: skip
async def test_quality_is_a_size_where_nothing_else_is(quality: str, size: str | None) -> None:
    assert (await asked(quality=quality, size="auto")).order.request.image_size == size
    beside = await asked(quality=quality, image_size="1K")
    assert beside.order.request.image_size == "1K"
    assert [item.code for item in beside.order.notices] == ["quality_without_effect"] * (quality != "auto")


async def test_a_size_decides_ratio_and_size() -> None:
    request = (await asked(size="792x168", quality="max")).order.request
    assert (request.aspect_ratio, request.image_size) == ("21:9", "512")


@pytest.mark.parametrize(
    ("both", "field"),
    [
        ({"size": "512x512", "aspect_ratio": "1:1"}, "/size"),
        ({"size": "512x512", "image_size": "512"}, "/size"),
        ({"output_format": "png", "output_mime_type": "image/png"}, "/output_format"),
        ({"output_compression": 5, "output_compression_quality": 5}, "/output_compression"),
        ({"response_format": "url", "delivery": "uri"}, "/response_format"),
        ({"moderation": "low", "safety_settings": []}, "/moderation"),
    ],
    ids=str,
)
async def test_two_fields_for_one_thing_contradict_each_other(both: dict[str, Any], field: str) -> None:
    assert faults(await asked(**both)) == {(field, "conflicting_fields")}


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif", "svg"])
async def test_a_format_is_a_type_for_the_card_to_judge(name: str) -> None:
    found = await asked(output_format=name, output_compression=80)
    assert found.order.request.output_mime_type == f"image/{name}"
    assert found.order.request.output_compression_quality == 80


async def test_low_moderation_blocks_only_what_is_most_probably_harmful() -> None:
    assert (await asked(moderation="auto")).order.request.safety_settings == ()
    settings = (await asked(moderation="low")).order.request.safety_settings
    card = CATALOGUE.resolve("gemini-3.1-flash-image")
    assert card is not None
    assert {item.category for item in settings} == set(card.parameters.safety_categories)
    assert {item.threshold for item in settings} == {"BLOCK_ONLY_HIGH"}


async def test_whom_it_is_for_is_the_end_user_and_is_echoed() -> None:
    digest = "0123456789abcdef" * 4
    found = await asked(user="me", safety_identifier=digest, labels={"team": "search"})
    assert found.order.caller.user == SERVICE.identify_user("a", "me")
    assert dict(found.order.request.labels) == {"team": "search"}, "the name is nowhere in the work"
    assert found.safety_identifier == digest
    assert (await asked(user="me", safety_identifier="")).safety_identifier == "me"
    assert (await asked(safety_identifier=digest)).order.caller.user == SERVICE.identify_user("a", digest)
    assert (await asked(user="")).order.caller.user is None


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
@pytest.mark.parametrize("name", [" me", "a\nb", "x" * 257])
async def test_a_name_that_cannot_be_one_is_a_violation_of_its_own_field(field: str, name: str) -> None:
    found = await asked(**{field: name})
    (violation,) = translate_violations(found.order.violations, found.places)
    assert (violation.pointer, violation.code) == (f"/{field}", "invalid_user")
    assert found.order.caller.user is None


@pytest.mark.parametrize(("members", "delivery"), [
    ({}, "inline"), ({"response_format": "b64_json"}, "inline"), ({"response_format": "url"}, "uri"),
    ({"delivery": "uri"}, "uri"),
])  # fmt: skip
async def test_addresses_are_sent_where_they_are_asked_for(members: dict[str, Any], delivery: str) -> None:
    assert (await asked(**members)).delivery == delivery


async def test_a_form_reads_lists_and_objects_in_brackets() -> None:
    found = await form(
        {
            "response_modalities[]": ["TEXT", "IMAGE"],
            "labels[team]": ["search"],
            "labels[stage]": ["test"],
            "grounding[web_search]": ["true"],
            "n": ["2"],
            "stream": ["true"],
        },
        "image[]",
        "image[]",
    )
    request = found.order.request
    assert not found.order.violations
    assert found.stream
    assert (request.n, request.response_modalities) == (2, ("TEXT", "IMAGE"))
    assert dict(request.labels) == {"team": "search", "stage": "test"}
    assert request.grounding.web_search
    assert [item.pointer for item in request.images] == ["/image/0", "/image/1"]


async def test_a_form_field_sent_in_two_ways_is_refused() -> None:
    twice = {"labels": ['{"a": "b"}'], "labels[a]": ["c"], "n": ["1", "2"], "seed[]": ["1"], "seed[a]": ["2"]}
    assert {
        ("/labels", "repeated_field"),
        ("/n", "repeated_field"),
        ("/seed[a]", "repeated_field"),
    } <= faults(await form(twice, "image"))


async def test_a_file_is_sent_as_a_file_and_where_one_is_expected() -> None:
    assert faults(await form({"image": ["text"]})) == {("/image", "wrong_type")}
    assert faults(await form({"image[]": ["text"]}, "image")) == {("/image", "wrong_type")}
    assert faults(await form({}, "image", "mask", "markup[]", "other")) == {
        ("/mask", "unsupported_mask"),
        ("/markup", "unsupported_markup"),
        ("/other", "unknown_field"),
    }


async def test_violations_name_the_callers_own_fields() -> None:
    found = await asked(quality="max", output_format="webp", safety_identifier="me")
    native = (
        Violation("/image_size", "preview_not_allowed", "No.", ("512", "1K")),
        Violation("/output_mime_type", "unsupported", "No.", ("image/png", "image/jpeg")),
        Violation("/user", "user_mismatch", "No."),
        Violation("/prompt", "empty_prompt", "No."),
    )
    assert translate_violations(native, found.places) == (
        Violation("/quality", "preview_not_allowed", "No."),
        Violation("/output_format", "unsupported", "No.", ("png", "jpeg")),
        Violation("/safety_identifier", "user_mismatch", "No."),
        Violation("/prompt", "empty_prompt", "No."),
    )
    spelt = await asked(image_size="4K", output_mime_type="image/webp")
    assert translate_violations(native, spelt.places) == native


@given(MEMBERS)
@settings(max_examples=300, deadline=None)
async def test_no_json_is_too_strange_to_be_judged(members: dict[str, Any]) -> None:
    found = await parse_json_request(SERVICE, CALLER, JsonBody(members, {}), None)
    assert "prompt" in members or ("/prompt", "required") in faults(found)


@given(FIELDS)
@settings(max_examples=300, deadline=None)
async def test_no_form_is_too_strange_to_be_judged(fields: dict[str, list[str]]) -> None:
    found = await parse_form_request(SERVICE, CALLER, FormBody(fields, {}), None)
    given = {name.partition("[")[0] for name in fields} & {"image", "document", "video"}
    assert ("/image", "required") in faults(found) or given
