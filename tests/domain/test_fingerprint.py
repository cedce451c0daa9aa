"""Fingerprints: equal for equal work, different for any difference that the model can see."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import fields, replace

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.conversation import Conversation, Earlier
from app.domain.fingerprint import compute_digest, compute_fingerprint
from app.domain.passthrough import Passthrough
from app.domain.request import GenerationRequest, Grounding, Input, SafetySetting

CATALOGUE = load_catalogue()
_FOUND = CATALOGUE.resolve("gemini-3.1-flash-image")
assert _FOUND is not None
CARD = _FOUND
PARAMETERS = CARD.parameters

TALK = Conversation("gen_1", CARD.id, "vertex", 1, "", (), 0, 1, 9, 0, 1)
PLAIN = GenerationRequest(CARD.id, "a fox")
FOX = Input("image", "/images/0", b"fox", mime_type="image/png", digest=compute_digest(b"fox"))
OWL = Input("image", "/images/1", b"owl", mime_type="image/png", digest=compute_digest(b"owl"))
NOTE = Input("document", "/documents/0", b"note", mime_type="text/plain", digest=compute_digest(b"note"))
STORED = Input("image", "/images/0", uri="gs://a/b", digest=compute_digest(b"gs://a/b"))
HARASSMENT = SafetySetting("HARM_CATEGORY_HARASSMENT", "BLOCK_NONE")
DANGER = SafetySetting("HARM_CATEGORY_DANGEROUS_CONTENT", "OFF")
FULL = GenerationRequest(
    model=CARD.id,
    prompt="a fox",
    images=(FOX, OWL),
    documents=(NOTE,),
    aspect_ratio="16:9",
    image_size="4K",
    n=2,
    response_modalities=("TEXT", "IMAGE"),
    output_mime_type="image/jpeg",
    output_compression_quality=80,
    temperature=0.3,
    top_p=0.9,
    seed=7,
    max_output_tokens=4096,
    thinking_level="high",
    system_instruction="be calm",
    safety_settings=(HARASSMENT, DANGER),
    grounding=Grounding(web_search=True),
    variant=3,
)

# Made once by this code. A changed value means that every cached result is lost: raise VERSION with it.
GOLDEN = [
    (PLAIN, "search", "299ed2d1f20631e3738a7a821534b6437a38d62c5b42e16096f008aaaf4111c6"),
    (FULL, "search", "9a3ffb68a3b79f731403a5f8082c5ab4c6889f6a59504c0a4ab0e998ef26b050"),
    (PLAIN, "plain", "75e5a0123f7cad1506974dafdf86d5dbc0909662025504c7efd7db619647fe74"),
]


def of(request: GenerationRequest, tenant_id: str = "search") -> str:
    return compute_fingerprint(request, CARD, tenant_id)


@pytest.mark.parametrize(("request_", "tenant_id", "digits"), GOLDEN)
def test_fingerprints_never_change(request_: GenerationRequest, tenant_id: str, digits: str) -> None:
    assert of(request_, tenant_id) == digits


DEFAULTS = {
    "image_size": CARD.image_size_default,
    "temperature": 1.0,
    "top_p": 0.95,
    "max_output_tokens": CARD.tokens.output_max,
    "thinking_level": PARAMETERS.thinking_level_default,
    "system_instruction": "",
}


@given(st.sets(st.sampled_from(sorted(DEFAULTS))))
def test_defaults_said_aloud_change_nothing(said: set[str]) -> None:
    assert of(replace(PLAIN, **{name: DEFAULTS[name] for name in said})) == of(PLAIN)  # type: ignore[arg-type]


SAME_WORK = {
    "how Google is to serve it": replace(FULL, service_tier="flex"),
    "labels": replace(FULL, labels=(("team", "a"),)),
    "an alias, which is resolved to the same card": replace(FULL, model="nano-banana-2"),
    "the order of safety settings": replace(FULL, safety_settings=(DANGER, HARASSMENT)),
    "the order of modalities": replace(FULL, response_modalities=("IMAGE", "TEXT")),
    "where an input stood in the caller's request": replace(
        FULL, images=(replace(FOX, pointer="/contents/0"), OWL)
    ),
    "facts that follow from the bytes": replace(FULL, images=(replace(FOX, width=5, height=5), OWL)),
    "Google's own words that say no more": replace(
        FULL, verbatim=Passthrough(b"{ }", {"a": b""}, identity="")
    ),
    "whose bound on output it is": replace(FULL, bounded=True),
    "a whole number as a float": replace(FULL, temperature=0.3 + 0.0),
}


@pytest.mark.parametrize("name", SAME_WORK)
def test_what_the_model_cannot_see_changes_nothing(name: str) -> None:
    assert of(SAME_WORK[name]) == of(FULL)


def test_zero_is_zero_with_either_sign() -> None:
    assert of(replace(PLAIN, temperature=-0.0)) == of(replace(PLAIN, temperature=0.0))


@given(st.text())
def test_equivalent_spellings_of_a_text_are_one_work(text: str) -> None:
    spellings = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")} | {text}
    assert len({of(replace(PLAIN, prompt=one)) for one in spellings}) == 1
    assert len({of(replace(PLAIN, system_instruction=one)) for one in spellings}) == 1


OTHER_WORK = {
    "prompt": replace(FULL, prompt="a fox "),
    "prompt's case": replace(FULL, prompt="A fox"),
    "compatible characters are not equivalent": replace(FULL, prompt="a \N{LATIN SMALL LIGATURE FF}ox"),
    "an image fewer": replace(FULL, images=(FOX,)),
    "the order of images": replace(FULL, images=(OWL, FOX)),
    "an image twice": replace(FULL, images=(FOX, OWL, OWL)),
    "an image's bytes": replace(FULL, images=(replace(FOX, digest=compute_digest(b"foy")), OWL)),
    "an image's type": replace(FULL, images=(replace(FOX, mime_type="image/webp"), OWL)),
    "an image as a document": replace(FULL, images=(FOX,), documents=(replace(OWL, kind="document"), NOTE)),
    "no document": replace(FULL, documents=()),
    "a video": replace(
        FULL, videos=(Input("video", "", uri="gs://a/b", digest=compute_digest(b"gs://a/b")),)
    ),
    "aspect_ratio": replace(FULL, aspect_ratio="9:16"),
    "the model's own aspect ratio": replace(FULL, aspect_ratio=None),
    "image_size": replace(FULL, image_size="2K"),
    "n": replace(FULL, n=1),
    "response_modalities": replace(FULL, response_modalities=("IMAGE",)),
    "output_mime_type": replace(FULL, output_mime_type="image/png"),
    "the upstream's own type": replace(FULL, output_mime_type=None),
    "output_compression_quality": replace(FULL, output_compression_quality=81),
    "temperature": replace(FULL, temperature=0.30000000000000004),
    "top_p": replace(FULL, top_p=0.91),
    "seed": replace(FULL, seed=8),
    "no seed": replace(FULL, seed=None),
    "the seed 0": replace(FULL, seed=0),
    "max_output_tokens": replace(FULL, max_output_tokens=4097),
    "thinking_level": replace(FULL, thinking_level="minimal"),
    "system_instruction": replace(FULL, system_instruction="be calm."),
    "texts that are joined alike": replace(FULL, prompt="a foxbe", system_instruction=" calm"),
    "safety_settings": replace(FULL, safety_settings=(HARASSMENT,)),
    "a threshold": replace(FULL, safety_settings=(HARASSMENT, replace(DANGER, threshold="BLOCK_NONE"))),
    "grounding": replace(FULL, grounding=Grounding(image_search=True)),
    "no grounding": replace(FULL, grounding=Grounding()),
    "variant": replace(FULL, variant=4),
    "what only Google's own words say": replace(
        FULL, verbatim=Passthrough(b"{}", {}, identity='{"tools":1}')
    ),
    "a conversation before it": replace(FULL, earlier=Earlier(TALK, {})),
    "another conversation before it": replace(FULL, earlier=Earlier(replace(TALK, id="gen_2"), {})),
    "something else that only they say": replace(
        FULL, verbatim=Passthrough(b"{}", {}, identity='{"tools":2}')
    ),
}


def test_every_difference_that_the_model_can_see_is_another_work() -> None:
    found = {name: of(request) for name, request in OTHER_WORK.items()}
    assert len({*found.values(), of(FULL)}) == len(OTHER_WORK) + 1


def test_no_field_of_a_request_was_forgotten() -> None:
    varied = {
        field.name
        for field in fields(GenerationRequest)
        for request in [*OTHER_WORK.values(), *SAME_WORK.values()]
        if getattr(request, field.name) != getattr(FULL, field.name)
    }
    # The model does not offer these two; a request that sets them is refused before it has a fingerprint.
    refused = {"top_k", "candidate_count"}
    # These are said in Google's own words alone, whose identity takes part.
    said_there = {"thinking_budget", "other_text_bytes", "body_bytes", "extra_tokens", "unpriced"}
    # This chooses the model that serves a conversation, before there is a fingerprint.
    chooses = {"opening"}
    assert {field.name for field in fields(GenerationRequest)} - varied == refused | said_there | chooses


def test_quality_0_is_not_the_upstreams_own_quality() -> None:
    assert of(replace(PLAIN, output_compression_quality=0)) != of(PLAIN)


def test_an_address_is_not_a_file_that_holds_its_text() -> None:
    as_file = replace(STORED, data=b"gs://a/b", uri=None)
    assert of(replace(PLAIN, images=(STORED,))) != of(replace(PLAIN, images=(as_file,)))


def test_the_claimed_type_counts_where_the_bytes_are_elsewhere() -> None:
    one, other = (replace(STORED, declared_mime_type=claim) for claim in ("image/png", "image/jpeg"))
    assert of(replace(PLAIN, images=(one,))) != of(replace(PLAIN, images=(other,)))


def test_models_do_not_share_work() -> None:
    other = CATALOGUE.resolve("gemini-3-pro-image")
    assert other is not None
    assert compute_fingerprint(PLAIN, other, "search") != of(PLAIN)


@given(st.text(max_size=20), st.text(max_size=20))
def test_tenants_do_not_share_work(one: str, other: str) -> None:
    assert (of(PLAIN, one) == of(PLAIN, other)) == (one == other)


texts = st.text(max_size=30)
requests = st.builds(
    GenerationRequest,
    model=st.just(CARD.id),
    prompt=texts,
    images=st.lists(st.sampled_from([FOX, OWL, STORED]), max_size=3).map(tuple),
    documents=st.lists(st.just(NOTE), max_size=1).map(tuple),
    aspect_ratio=st.none() | st.sampled_from(CARD.aspect_ratios),
    image_size=st.none() | st.sampled_from(sorted(CARD.image_sizes)),
    n=st.integers(1, 8),
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(-(2**31), 2**31 - 1),
    system_instruction=st.none() | texts,
    thinking_level=st.none() | st.sampled_from(PARAMETERS.thinking_levels),
    variant=st.integers(0, 5),
)


def meaning(request: GenerationRequest) -> str:
    """What the model sees, written in another way than the fingerprint's."""
    return json.dumps(
        [
            unicodedata.normalize("NFC", request.prompt),
            unicodedata.normalize("NFC", request.system_instruction or ""),
            [(item.kind, item.uri, item.digest) for item in request.inputs],
            request.aspect_ratio,
            request.image_size or "1K",
            request.n,
            1.0 if request.temperature is None else abs(request.temperature),
            request.seed,
            request.thinking_level or "minimal",
            request.variant,
        ]
    )


@given(requests, requests)
def test_fingerprints_are_equal_exactly_where_the_work_is(
    one: GenerationRequest, other: GenerationRequest
) -> None:
    assert (of(one) == of(other)) == (meaning(one) == meaning(other))


def test_a_digest_is_blake3() -> None:
    assert compute_digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert (
        compute_digest(memoryview(b"abc")) == compute_digest(bytearray(b"abc")) == blake3(b"abc").hexdigest()
    )
