"""What passes our rules passes the emulator's; where ours are stricter, the reason is written down."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.domain.policy import Policy
from app.domain.request import GenerationRequest, Grounding, Input, SafetySetting, derive_seeds
from app.domain.validation import normalize_request, validate
from app.emulator.child import EmulatorChild
from app.emulator.errors import GoogleError
from app.emulator.painter import UnreadableImageError, open_reference
from app.emulator.requests import read_generate
from app.media.inspection import inspect
from tests.domain.validation_cases import CARD
from tests.fixtures import image_bytes
from tests.media.files import animated, encoded
from tests.media.pdf_files import locked, padded
from tests.upstream.conftest import calling, lasting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.request import InputKind
    from app.emulator.messages import Dialect

STRICTER = {
    "too_many_images": "what is offered as an image counts as one, whatever it turns out to be",
    "unsupported_image_type": "the bytes are of a type that the card does not name, whatever they are called",
    "unsupported_document_type": "the same for documents",
    "unknown_image_type": "no signature of a picture",
    "unknown_document_type": "neither a PDF nor text",
    "truncated_image": "the upstream would draw from half a picture",
    "unreadable_image": "the header contradicts its format",
    "truncated_document": "a PDF without its end",
    "unreadable_document": "a PDF without pages, or a text that is not UTF-8",
    "encrypted_document": "the model cannot read it, and would be paid for trying",
    "empty_file": "no bytes",
    "too_many_pixels": "a limit of the gateway's own",
    "empty_prompt": "blanks alone ask for nothing",
    "n_out_of_range": "the gateway's own field: as many calls",
    "variant_out_of_range": "the gateway's own field",
    "too_many_labels": "the gateway's own field",
    "label_too_long": "the gateway's own field",
    "empty_label": "the gateway's own field",
    "invalid_label": "the gateway's own field",
    "duplicate_label": "the gateway's own field",
    "unsupported_top_k": "the card offers none; Google takes it and ignores it",
    "unsupported_response_modalities": "Google takes an empty list for words and picture",
    "unsupported_safety_category": "the card names four; Google takes others and ignores them",
    "unsupported_safety_threshold": "unspecified is no threshold",
    "duplicate_safety_category": "which of the two holds cannot be said",
    "unsupported_thinking_level": "unspecified is no level",
    "max_output_tokens_too_small": "the picture would not fit, and be paid for",
    "document_too_many_tokens": "the card's limit, which Google finds out by reading",
    "documents_too_many_tokens": "the same",
    "input_tokens_over_limit": "tokens are counted from above before they are known",
    "output_mime_type_not_available": "this back end does not let a caller choose",
    "output_compression_quality_not_available": "this back end does not let a caller choose",
    "output_compression_quality_needs_jpeg": "it would be ignored",
}
"""Codes of ours for what the emulator takes, each with its reason."""

HTTP_REQUESTS = 12
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

FILES: dict[str, bytes] = {
    "png": encoded("PNG", 9, 9),
    "jpeg": encoded("JPEG", 9, 9),
    "webp": encoded("WEBP", 9, 9),
    "heic": image_bytes("orchard.heic"),
    "gif": encoded("GIF", 9, 9),
    "animated png": animated("PNG", 2),
    "animated webp": animated("WEBP", 2),
    "cut jpeg": encoded("JPEG", 64, 64)[:-40],
    "turned png": encoded("PNG", 9, 9)[::-1],
    "pdf": padded(2, 2000),
    "locked pdf": locked(),
    "cut pdf": padded(2, 2000)[:-30],
    "text": "Ein Fuchs, 狐.".encode(),
    "utf-16": "Ein Fuchs".encode("utf-16"),
    "nothing": b"",
}
CLAIMS = [
    *CARD.images.mime_types,
    *CARD.documents.mime_types,
    "image/gif",
    "image/jpg",
    "text/markdown",
    "x/y",
]
POLICIES: dict[Dialect, Policy] = {
    "gemini": Policy(),
    "vertex": Policy(capabilities=frozenset({"output_mime_type", "cloud_storage"})),
}


def _input(kind: InputKind, at: int, name: str, claim: str | None) -> Input:
    """A file as a surface would describe it."""
    data = FILES[name]
    facts = inspect(data, pixels_max=Policy().request.input_pixels_max)
    faults, pages = facts.faults, None
    if facts.mime_type == "application/pdf" and not faults:
        if name == "locked pdf":
            faults = (("encrypted_document", "It is encrypted."),)
        elif name == "cut pdf":
            faults = (("truncated_document", "It ends early."),)
        else:
            pages = 2
    return Input(
        kind, f"/{kind}s/{at}", data=data, declared_mime_type=claim, mime_type=facts.mime_type,
        width=facts.width, height=facts.height, pages=pages, faults=faults,
    )  # fmt: skip


def _mostly(*valid: Any, odd: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Something valid, now and then something odd: of so many fields, one or two are."""
    good = st.sampled_from(valid)
    return st.integers(0, 24).flatmap(lambda dice: st.sampled_from(odd) if odd and dice == 24 else good)


def _inputs(kind: InputKind, names: tuple[str, ...], most: int) -> st.SearchStrategy[tuple[Input, ...]]:
    one = st.tuples(_mostly(*names, odd=tuple(FILES)), _mostly(None, odd=tuple(CLAIMS)))
    counts = _mostly(0, 0, 1, 2, odd=(most - 1, most, most + 1))
    files = counts.flatmap(lambda count: st.lists(one, min_size=count, max_size=count))
    return files.map(lambda found: tuple(_input(kind, at, *item) for at, item in enumerate(found)))


CATEGORIES = CARD.parameters.safety_categories
SETTINGS = st.lists(
    st.builds(
        SafetySetting,
        _mostly(*CATEGORIES, odd=("HARM_CATEGORY_CIVIC_INTEGRITY", "HARM_CATEGORY_X", "")),
        _mostly(*CARD.parameters.safety_thresholds, odd=("HARM_BLOCK_THRESHOLD_UNSPECIFIED", "off")),
    ),
    max_size=3,
).map(tuple)
SPELLINGS = [word for size in CARD.image_sizes.values() for word in size.spellings]
REQUESTS = st.builds(
    GenerationRequest,
    model=st.just(CARD.id),
    prompt=_mostly("A fox", "狐" * 50, ".", odd=("", " \n", "\u200b", "a" * 390_000, "a" * 530_000)),
    images=_inputs("image", ("png", "jpeg", "webp", "heic"), CARD.images.count_max),
    documents=_inputs("document", ("pdf", "text"), 3),
    aspect_ratio=_mostly(None, *CARD.aspect_ratios, odd=("7:3", "1:1 ", "01:01", "auto", "")),
    image_size=_mostly(None, *CARD.image_sizes, *SPELLINGS, "2k", " 4K ", odd=("8K", "", "256", "ONE_K")),
    n=_mostly(1, 2, 8, odd=(0, 9, -1)),
    response_modalities=_mostly(
        ("IMAGE",), ("TEXT", "IMAGE"), ("IMAGE", "TEXT"), odd=((), ("TEXT",), ("AUDIO",), ("IMAGE", "IMAGE"))
    ),
    output_mime_type=_mostly(None, None, "image/png", "image/jpeg", odd=("image/webp", "")),
    output_compression_quality=_mostly(None, None, 0, 85, 100, odd=(-1, 101)),
    temperature=_mostly(None, 0.0, 2.0, 1.0, 5e-324, odd=(-0.001, 2.001, 1e30)),
    top_p=_mostly(None, 0.0, 1.0, 0.95, -0.0, odd=(-0.001, 1.001)),
    top_k=_mostly(None, None, None, odd=(0, 40)),
    candidate_count=_mostly(None, 1, odd=(0, 2, -1)),
    seed=_mostly(None, 0, 7, -(2**31), 2**31 - 1, odd=(2**31, -(2**31) - 1)),
    max_output_tokens=_mostly(None, 2520, 32_768, odd=(0, 1, 746, 747, 1119, 32_769, -1)),
    thinking_level=_mostly(None, "minimal", "high", "HIGH", odd=("low", "", "THINKING_LEVEL_UNSPECIFIED")),
    system_instruction=_mostly(None, "Be brief.", "", odd=(" ",)),
    safety_settings=_mostly(True, odd=(False,)).flatmap(lambda none: st.just(()) if none else SETTINGS),
    grounding=st.builds(Grounding, st.booleans(), st.booleans()),
    variant=_mostly(0, 1, 4_294_966, odd=(-1, 4_294_967)),
    labels=_mostly((), (("team", "search"),), odd=((("", ""),), tuple((f"l{n}", "v") for n in range(9)))),
)  # fmt: skip


def _parts(request: GenerationRequest, *, as_claimed: bool) -> Iterator[dict[str, Any]]:
    for item in request.inputs:
        data = base64.b64encode(item.data or b"").decode()
        mime_type = (as_claimed and item.declared_mime_type) or item.mime_type or ""
        yield {"inlineData": {"mimeType": mime_type, "data": data}}
    yield {"text": request.prompt}


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in (None, {}, ())}


def googles(request: GenerationRequest, dialect: Dialect, seed: int | None, *, as_claimed: bool) -> bytes:
    """The request in Google's own dialect, fault by fault; types as the caller claims, or as they are."""
    level, size = request.thinking_level, request.image_size
    tools: dict[str, Any] = {"webSearch": {}} if request.grounding.web_search else {}
    tools |= {"imageSearch": {}} if request.grounding.image_search else {}
    output = {"mimeType": request.output_mime_type, "compressionQuality": request.output_compression_quality}
    image = {
        "aspectRatio": request.aspect_ratio,
        "imageSize": (CARD.normalise_image_size(size) or size) if size is not None else None,
        "imageOutputOptions": _present(output) if dialect == "vertex" else {},
    }
    system = request.system_instruction
    config = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "candidateCount": request.candidate_count,
        "seed": seed,
        "maxOutputTokens": request.max_output_tokens,
        "responseModalities": list(request.response_modalities),
        "imageConfig": _present(image),
        "thinkingConfig": _present({"thinkingLevel": level.upper() if level is not None else None}),
    }
    harms = [{"category": each.category, "threshold": each.threshold} for each in request.safety_settings]
    document = {
        "contents": [{"role": "user", "parts": list(_parts(request, as_claimed=as_claimed))}],
        "systemInstruction": {"parts": [{"text": system}]} if system is not None else None,
        "generationConfig": _present(config),
        "safetySettings": harms or None,
        "tools": [{"googleSearch": {"searchTypes": tools}}] if tools else None,
    }
    return json.dumps(_present(document)).encode()


def refusal(
    request: GenerationRequest, dialect: Dialect, seed: int | None, *, as_claimed: bool = False
) -> str | None:
    """Why the emulator does not take a request, or None."""
    try:
        asked = read_generate(googles(request, dialect, seed, as_claimed=as_claimed), CARD, dialect)
        for reference in asked.references:
            open_reference(reference.data or b"")
    except GoogleError as error:
        return error.message
    except UnreadableImageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_the_emulator_takes_what_passes_our_rules_and_we_refuse_no_more_than_is_written_down(
    dialect: Dialect,
) -> None:
    policy, seen = POLICIES[dialect], {"taken": 0, "refused by us": 0}

    @settings(max_examples=250, deadline=None, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck))
    @given(REQUESTS)
    def agree(asked: GenerationRequest) -> None:
        codes = {violation.code for violation in validate(asked, CARD, policy)}
        if not codes:
            used = normalize_request(asked, CARD)
            assert [refusal(used, dialect, seed) for seed in derive_seeds(used)] == [None] * used.n
            seen["taken"] += 1
        elif refusal(asked, dialect, asked.seed, as_claimed=True) is None:
            assert codes <= STRICTER.keys()
            seen["refused by us"] += 1

    agree()
    assert min(seen.values()) > 10, seen


async def test_what_passes_our_rules_is_drawn_over_http() -> None:
    """The same through the real upstream adapter, with fewer and small pictures."""
    policy = POLICIES["vertex"]
    found: list[GenerationRequest] = []

    @settings(
        max_examples=150,
        deadline=None,
        phases=NO_SHRINKING,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(REQUESTS)
    def collect(asked: GenerationRequest) -> None:
        if len(asked.prompt) < 1000 and not validate(asked, CARD, policy):
            found.append(normalize_request(asked, CARD))

    collect()
    chosen = found[:: max(1, len(found) // HTTP_REQUESTS)][:HTTP_REQUESTS]
    assert len(chosen) == HTTP_REQUESTS
    async with EmulatorChild() as child, calling(child.base_url) as model:
        for asked in chosen:
            came = await model.generate(asked, derive_seeds(asked)[-1], lasting(60))
            assert came.pictures
