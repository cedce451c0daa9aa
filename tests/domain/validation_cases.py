"""For every rule of the card: requests that pass it and requests that it refuses, with where and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.cards import load_catalogue
from app.domain.conversation import Conversation, Earlier
from app.domain.policy import Policy, RequestConfig
from app.domain.request import GenerationRequest, Grounding, Input, SafetySetting

if TYPE_CHECKING:
    from app.domain.card import Card
    from app.domain.request import InputKind

FEW_PIXELS = Policy(request=RequestConfig(input_pixels_max=100))
CATALOGUE = load_catalogue()
CARD = next(card for card in CATALOGUE if card.id == "gemini-3.1-flash-image")
NO_SAMPLING = next(card for card in CATALOGUE if card.id == "gemini-nano-banana-2.1")
PRO = next(card for card in CATALOGUE if card.id == "gemini-3-pro-image")
ANYTHING = Policy()
STORAGE = Policy(capabilities=frozenset({"cloud_storage"}))
INPUTS = RequestConfig(gcs_buckets=frozenset({"inputs"}))
BUCKETS = replace(STORAGE, request=INPUTS)
VERTEX = Policy(capabilities=frozenset({"output_mime_type"}))


def request(**fields: Any) -> GenerationRequest:
    """A valid request apart from what is said."""
    return GenerationRequest(**{"model": CARD.id, "prompt": "A fox in the snow", **fields})


def bytes_input(kind: InputKind = "image", **fields: Any) -> Input:
    """A valid small file as inspection would describe it."""
    real = {"image": "image/png", "document": "text/plain", "video": "video/mp4"}[kind]
    known = {"kind": kind, "pointer": f"/{kind}s/0", "data": b"12345678", "mime_type": real}
    return Input(**{**known, **fields})


def stored(kind: InputKind = "image", **fields: Any) -> Input:
    """A file that stays in an allowed bucket."""
    known = {"kind": kind, "pointer": f"/{kind}s/0", "uri": "gs://inputs/a.png"}
    return Input(**{**known, "declared_mime_type": "image/png", **fields})


def image(**fields: Any) -> GenerationRequest:
    """A request with one image."""
    return request(images=(bytes_input("image", **fields),))


def document(**fields: Any) -> GenerationRequest:
    """A request with one document."""
    return request(documents=(bytes_input("document", **fields),))


def video(**fields: Any) -> GenerationRequest:
    """A request with one video."""
    return request(videos=(bytes_input("video", **fields),))


def many(count: int) -> tuple[Input, ...]:
    """So many valid images."""
    return tuple(bytes_input(pointer=f"/images/{index}") for index in range(count))


def texts(count: int, length: int) -> tuple[Input, ...]:
    """So many text documents of a length."""
    data = b"a" * length
    return tuple(bytes_input("document", data=data, pointer=f"/documents/{i}") for i in range(count))


def variation(card: Card, **fields: Any) -> Card:
    """A card with other facts, for limits that the seed cannot break."""
    return card.model_copy(update=fields)


RETIRED = variation(CARD, lifecycle=CARD.lifecycle.model_copy(update={"stage": "retired"}))
OFFERS_TOP_K = variation(CARD, parameters=CARD.parameters.model_copy(update={"top_k_offered": True}))
NO_DOCUMENTS = variation(CARD, documents=CARD.documents.model_copy(update={"mime_types": ()}))
NARROW = variation(CARD, tokens=CARD.tokens.model_copy(update={"output_max": 3000}))


@dataclass(frozen=True)
class Good:
    """A request that a rule lets pass."""

    rule: str
    request: GenerationRequest
    policy: Policy = ANYTHING
    card: Card = CARD


@dataclass(frozen=True)
class Bad:
    """A request that a rule refuses with exactly this code at exactly this place."""

    rule: str
    code: str
    pointer: str
    request: GenerationRequest
    policy: Policy = ANYTHING
    card: Card = CARD


def safety(*pairs: tuple[str, str]) -> GenerationRequest:
    """A request with safety settings."""
    return request(safety_settings=tuple(SafetySetting(*pair) for pair in pairs))


HATE = "HARM_CATEGORY_HATE_SPEECH"
EMPTY = (("empty_file", "There are no bytes."),)
STORED_PDF = stored("document", declared_mime_type="application/pdf")
SEVEN_MB = b"\x89PNG" + bytes(6_999_996)

TALK = Conversation("gen_1", CARD.id, "vertex", 3, "", (), 13, 16, 3000, 258, 1)
"""Three turns with all references but one that the card takes."""


def talking(*images: Input, **facts: Any) -> GenerationRequest:
    """A request that goes on with a conversation."""
    return request(earlier=Earlier(replace(TALK, **facts), {}), images=images)


GOOD = (
    Good("conversation", talking()),
    Good("earlier_addresses", talking(addresses=("gs://inputs/a.pdf",)), BUCKETS),
    Good("images", talking(bytes_input())),
    Good("model", request(), Policy(models=frozenset({CARD.id}))),
    Good("model", request()),
    Good("texts", request(prompt="狐", system_instruction="Be brief.")),
    Good("texts", request(prompt=".")),
    Good("prices", request(unpriced=("/tools/0/urlContext",))),
    Good("prices", request(), Policy(needs_prices=True)),
    *(Good("service_tier", request(service_tier=tier)) for tier in (None, "standard", "flex", "priority")),
    Good("texts", request(prompt="\u200b\u200b狐")),
    *(Good("aspect_ratio", request(aspect_ratio=ratio)) for ratio in CARD.aspect_ratios),
    Good("aspect_ratio", request(aspect_ratio=None)),
    *(Good("image_size", request(image_size=size)) for size in CARD.image_sizes),
    *(
        Good("image_size", request(image_size=spelling))
        for spelling in ("512", "0.5K", "0.5k", "512px", "512P", "1k", "2k", "4k", "2048", "1024px", " 2K ")
    ),
    Good("image_size", request(image_size="2K"), Policy(max_image_size="2K")),
    Good("image_size", request(image_size="4K"), Policy(preview=frozenset({"4K"}))),
    Good("count", request(n=1)),
    Good("count", request(n=8)),
    Good("candidate_count", request(candidate_count=1)),
    Good("response_modalities", request(response_modalities=("IMAGE",))),
    Good("response_modalities", request(response_modalities=("TEXT", "IMAGE"))),
    Good("response_modalities", request(response_modalities=("IMAGE", "TEXT"))),
    Good("temperature", request(temperature=0.0)),
    Good("temperature", request(temperature=2.0)),
    Good("top_p", request(top_p=0.0)),
    Good("top_p", request(top_p=1.0)),
    Good("top_k", request(top_k=None)),
    Good("seed", request(n=2, variant=3), card=NO_SAMPLING),
    Good("top_k", request(top_k=40), card=OFFERS_TOP_K),
    Good("seed", request(seed=-(2**31))),
    Good("seed", request(seed=2**31 - 1)),
    Good("variant", request(variant=0)),
    Good("variant", request(variant=4_294_966)),
    Good("max_output_tokens", request(max_output_tokens=32_768)),
    Good("max_output_tokens", request(max_output_tokens=747, image_size="512")),
    Good("output_tokens", request(image_size="512"), card=NARROW),
    Good("thinking_level", request(thinking_level="high")),
    Good("thinking_level", request(thinking_level="MINIMAL")),
    Good("safety_settings", safety((HATE, "BLOCK_NONE"), ("HARM_CATEGORY_HARASSMENT", "OFF"))),
    Good("output_format", request(output_mime_type="image/png"), VERTEX),
    Good("output_format", request(output_mime_type="image/jpeg", output_compression_quality=85), VERTEX),
    Good("grounding", request(grounding=Grounding(web_search=True, image_search=True))),
    Good("labels", request(labels=tuple((f"label{i}", "v" * 63) for i in range(8)))),
    Good("images", request(images=many(14))),
    Good("images", image(data=SEVEN_MB)),
    Good("images", image(width=8000, height=8000)),
    *(Good("images", image(mime_type=real)) for real in CARD.images.mime_types),
    Good("images", image(declared_mime_type="image/png")),
    Good("images", image(declared_mime_type="IMAGE/PNG; charset=binary")),
    *(
        Good("images", image(declared_mime_type=claim))
        for claim in ("application/octet-stream", "binary/x", "image/*", "png", "image/gif", "x", "")
    ),
    Good("images", image(mime_type="image/heic", declared_mime_type="image/avif")),
    Good("images", image(frames=3)),
    *(
        Good("documents", document(declared_mime_type=claim))
        for claim in ("text/csv", "text/markdown", "application/json", "application/pdf", "\n<script>")
    ),
    *(Good("videos", video(mime_type=real)) for real in CARD.video.mime_types),
    Good("videos", request(videos=(stored("video", declared_mime_type="video/mov"),)), BUCKETS),
    Good("documents", request(documents=(stored("document", declared_mime_type="text/csv"),)), BUCKETS),
    Good("images", image(declared_mime_type="image/jpg", mime_type="image/jpeg")),
    Good("images", image(declared_mime_type="image/heif", mime_type="image/heic")),
    Good("images", request(images=(stored(),)), BUCKETS),
    Good("documents", document()),
    Good("documents", document(declared_mime_type="text/plain; charset=utf-8")),
    Good("documents", document(data=bytes(50_000_000), mime_type="application/pdf")),
    Good("documents", document(mime_type="application/pdf", pages=254)),
    Good("documents", document(data=b"a" * 196_608)),
    Good("documents", request(documents=(STORED_PDF,)), BUCKETS),
    Good("videos", video()),
    Good("videos", video(seconds=436.0)),
    Good("videos", request(videos=(stored("video", declared_mime_type="video/mp4"),)), BUCKETS),
    Good("input_tokens", request(prompt="a" * 393_216)),
)  # fmt: skip

BAD = (
    Bad("model", "model_not_allowed", "/model", request(), Policy(models=frozenset({PRO.id}))),
    Bad("model", "model_retired", "/model", request(), card=RETIRED),
    Bad("texts", "empty_prompt", "/prompt", request(prompt="")),
    Bad("texts", "empty_prompt", "/prompt", request(prompt=" \t\n\u3000")),
    Bad("texts", "empty_prompt", "/prompt", request(prompt="\u200b\u2060\ufeff")),
    Bad("texts", "empty_prompt", "/prompt", request(prompt=" \u200b \x00\u2028")),
    Bad("texts", "invalid_text", "/prompt", request(prompt="a fox \ud83e")),
    Bad("texts", "invalid_text", "/system_instruction", request(system_instruction="\udd8a")),
    *(
        Bad("aspect_ratio", "unsupported_aspect_ratio", "/aspect_ratio", request(aspect_ratio=ratio))
        for ratio in ("7:3", "", "1:1 ", "01:01", "16x9", "2:2", "1.0", "\uff11:\uff11", "auto", "9:32")
    ),
    *(
        Bad("image_size", "unsupported_image_size", "/image_size", request(image_size=size))
        for size in ("8K", "", "banana", "512K", "K", "1", "2 K", "256", "1024x1024", "²K")
    ),
    Bad("image_size", "unsupported_image_size", "/image_size", request(image_size="512"), card=PRO),
    Bad(
        "image_size", "image_size_not_allowed", "/image_size",
        request(image_size="2k"), Policy(max_image_size="1K"),
    ),
    Bad(
        "image_size", "preview_not_allowed", "/image_size",
        request(image_size="4K"), Policy(preview=frozenset({"video"})),
    ),
    Bad("count", "n_out_of_range", "/n", request(n=0)),
    Bad("count", "n_out_of_range", "/n", request(n=-1)),
    Bad("count", "n_out_of_range", "/n", request(n=9)),
    Bad("candidate_count", "unsupported_candidate_count", "/candidate_count", request(candidate_count=2)),
    Bad("candidate_count", "unsupported_candidate_count", "/candidate_count", request(candidate_count=0)),
    *(
        Bad("response_modalities", "unsupported_response_modalities", "/response_modalities",
            request(response_modalities=asked))
        for asked in ((), ("TEXT",), ("AUDIO", "IMAGE"), ("IMAGE", "IMAGE"), ("image",))
    ),
    *(
        Bad("temperature", "temperature_out_of_range", "/temperature", request(temperature=value))
        for value in (-0.01, 2.01, math.nan, math.inf, -math.inf)
    ),
    *(
        Bad("top_p", "top_p_out_of_range", "/top_p", request(top_p=value))
        for value in (-0.01, 1.01, math.nan, math.inf)
    ),
    Bad("top_k", "unsupported_top_k", "/top_k", request(top_k=40)),
    Bad("seed", "unsupported_seed", "/seed", request(seed=0), card=NO_SAMPLING),
    Bad("temperature", "unsupported_temperature", "/temperature", request(temperature=1.0), card=NO_SAMPLING),
    Bad("top_p", "unsupported_top_p", "/top_p", request(top_p=0.95), card=NO_SAMPLING),
    Bad("seed", "seed_out_of_range", "/seed", request(seed=2**31)),
    Bad("seed", "seed_out_of_range", "/seed", request(seed=-(2**31) - 1)),
    Bad("variant", "variant_out_of_range", "/variant", request(variant=-1)),
    Bad("variant", "variant_out_of_range", "/variant", request(variant=4_294_967)),
    *(
        Bad("max_output_tokens", "max_output_tokens_out_of_range", "/max_output_tokens",
            request(max_output_tokens=value))
        for value in (0, -5, 32_769)
    ),
    *(
        Bad("max_output_tokens", "max_output_tokens_too_small", "/max_output_tokens",
            request(max_output_tokens=size.tokens - 1, image_size=name))
        for name, size in CARD.image_sizes.items()
    ),
    Bad("output_tokens", "output_tokens_over_limit", "/image_size", request(image_size="4K"), card=NARROW),
    *(
        Bad("thinking_level", "unsupported_thinking_level", "/thinking_level", request(thinking_level=level))
        for level in ("medium", "low", "", "THINKING_LEVEL_UNSPECIFIED")
    ),
    Bad("safety_settings", "unsupported_safety_category", "/safety_settings/0/category",
        safety(("HARM_CATEGORY_JAILBREAK", "OFF"))),
    Bad("safety_settings", "unsupported_safety_threshold", "/safety_settings/1/threshold",
        safety(("HARM_CATEGORY_HARASSMENT", "OFF"), (HATE, "BLOCK_EVERYTHING"))),
    Bad("safety_settings", "duplicate_safety_category", "/safety_settings/1/category",
        safety((HATE, "OFF"), (HATE, "BLOCK_NONE"))),
    Bad("output_format", "output_mime_type_not_available", "/output_mime_type",
        request(output_mime_type="image/png")),
    Bad("output_format", "unsupported_output_mime_type", "/output_mime_type",
        request(output_mime_type="image/webp"), VERTEX),
    Bad("output_format", "output_compression_quality_not_available", "/output_compression_quality",
        request(output_compression_quality=80)),
    Bad("output_format", "output_compression_quality_out_of_range", "/output_compression_quality",
        request(output_mime_type="image/jpeg", output_compression_quality=101), VERTEX),
    Bad("output_format", "output_compression_quality_needs_jpeg", "/output_compression_quality",
        request(output_mime_type="image/png", output_compression_quality=80), VERTEX),
    Bad("grounding", "unsupported_grounding", "/grounding/image_search",
        request(grounding=Grounding(image_search=True)), card=PRO),
    Bad("prices", "unpriced_member", "/tools/0/urlContext", request(unpriced=("/tools/0/urlContext",)),
        Policy(needs_prices=True)),
    Bad("service_tier", "unsupported_service_tier", "/service_tier",
        request(service_tier="flex"), card=NO_SAMPLING),
    Bad("labels", "too_many_labels", "/labels", request(labels=tuple((f"l{i}", "") for i in range(9)))),
    Bad("labels", "label_too_long", f"/labels/{'k' * 63}", request(labels=(("k" * 64, ""),))),
    Bad("labels", "label_too_long", "/labels/k", request(labels=(("k", "v" * 64),))),
    Bad("labels", "empty_label", "/labels/", request(labels=(("", "v"),))),
    Bad("labels", "invalid_label", "/labels/a~1b", request(labels=(("a/b", "line\nbreak"),))),
    Bad("labels", "invalid_label", "/labels/?", request(labels=(("\ud800", "v"),))),
    Bad("labels", "duplicate_label", "/labels/k", request(labels=(("k", "1"), ("k", "2")))),
    Bad("images", "too_many_images", "/images/14", request(images=many(15))),
    Bad("images", "image_too_large", "/images/0", image(data=SEVEN_MB + b"\x00")),
    Bad("images", "too_many_pixels", "/images/0", image(width=16_001, height=16_000)),
    Bad("images", "too_many_pixels", "/images/0", image(width=11, height=10), FEW_PIXELS),
    Bad("images", "unknown_image_type", "/images/0", image(mime_type=None)),
    *(
        Bad("images", "unsupported_image_type", "/images/0", image(mime_type=real))
        for real in ("image/gif", "image/bmp", "image/tiff", "image/avif", "application/pdf", "text/plain")
    ),
    Bad("earlier_addresses", "bucket_not_allowed", "/continue_from",
        talking(addresses=("gs://inputs/a.pdf", "gs://other/a.pdf")), BUCKETS),
    Bad("conversation", "other_model", "/continue_from", talking(model=PRO.id)),
    Bad("images", "too_many_images", "/images/1", talking(*many(2))),
    Bad("images", "too_many_images", "/continue_from", talking(images=15)),
    Bad("input_tokens", "input_tokens_over_limit", "/continue_from", talking(pictures=118)),
    Bad("input_tokens", "input_tokens_over_limit", "/continue_from", talking(text_bytes=3 * 131_072)),
    Bad("images", "ambiguous_input", "/images/0", image(uri="gs://inputs/a.png"), BUCKETS),
    Bad("images", "missing_input", "/images/0", image(data=None, mime_type=None)),
    Bad("images", "invalid_address", "/images/0",
        request(images=(stored(uri="http://inputs/a.png"),)), BUCKETS),
    Bad("images", "bucket_not_allowed", "/images/0",
        request(images=(stored(uri="gs://other/a.png"),)), BUCKETS),
    Bad("images", "bucket_not_allowed", "/images/0", request(images=(stored(),)), STORAGE),
    Bad("images", "address_not_available", "/images/0", request(images=(stored(),)),
        Policy(request=INPUTS)),
    Bad("images", "mime_type_required", "/images/0",
        request(images=(stored(declared_mime_type=None),)), BUCKETS),
    Bad("images", "unsupported_image_type", "/images/0",
        request(images=(stored(declared_mime_type="image/gif"),)), BUCKETS),
    Bad("documents", "documents_not_supported", "/documents", document(), card=NO_DOCUMENTS),
    Bad("documents", "document_too_large", "/documents/0",
        document(data=bytes(50_000_001), mime_type="application/pdf")),
    Bad("documents", "unknown_document_type", "/documents/0", document(mime_type=None)),
    Bad("documents", "unsupported_document_type", "/documents/0", document(mime_type="image/png")),
    Bad("documents", "unsupported_document_type", "/documents/0", document(mime_type="application/zip")),
    Bad("documents", "document_too_many_tokens", "/documents/0", document(data=b"a" * 196_609)),
    Bad("documents", "document_too_many_tokens", "/documents/0",
        document(mime_type="application/pdf", pages=255)),
    Bad("documents", "documents_too_many_tokens", "/documents", request(documents=texts(3, 190_000))),
    Bad("videos", "preview_not_allowed", "/videos", video(), Policy(preview=frozenset({"4K"}))),
    Bad("videos", "videos_not_supported", "/videos", video(), card=PRO),
    Bad("videos", "unknown_video_type", "/videos/0", video(mime_type=None)),
    *(
        Bad("videos", "unsupported_video_type", "/videos/0", video(mime_type=real))
        for real in ("image/png", "video/x-matroska", "video/ogg", "audio/mp4")
    ),
    *(
        Bad(f"{kind}s", f"{fault}_{kind}", f"/{kind}s/0", made(faults=((f"{fault}_{kind}", "It is torn."),)))
        for kind, made in (("image", image), ("document", document), ("video", video))
        for fault in ("truncated", "unreadable")
    ),
    *(
        Bad(f"{kind}s", "empty_file", f"/{kind}s/0", made(data=b"", mime_type=None, faults=EMPTY))
        for kind, made in (("image", image), ("document", document), ("video", video))
    ),
    Bad("documents", "encrypted_document", "/documents/0",
        document(faults=(("encrypted_document", "It is encrypted."),))),
    Bad("input_tokens", "input_tokens_over_limit", "/videos", video(seconds=437.0)),
    Bad("input_tokens", "input_tokens_over_limit", "/prompt", request(prompt="a" * 393_217)),
    Bad("input_tokens", "input_tokens_over_limit", "/prompt",
        request(prompt="a" * 393_216, system_instruction="b")),
    Bad("input_tokens", "input_tokens_over_limit", "/prompt", request(prompt="a" * 390_000, images=many(2))),
    Bad("input_tokens", "input_tokens_over_limit", "/documents",
        request(prompt="a" * 9000, documents=texts(2, 196_000))),
)  # fmt: skip


def everything_wrong() -> GenerationRequest:
    """A request with a fault in nearly every field."""
    return replace(
        image(mime_type="image/gif"),
        prompt=" ",
        aspect_ratio="7:3",
        image_size="8K",
        n=99,
        candidate_count=4,
        top_k=1,
        temperature=math.nan,
        top_p=2.0,
        seed=2**40,
        max_output_tokens=0,
        thinking_level="deep",
        response_modalities=("AUDIO",),
        output_mime_type="image/webp",
    )
