"""The values that each rule accepts by a card, and its violation codes: for documents, not for requests.

A test compares the codes with those that the rules give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.domain.policy import PIXELS_MAX, RequestConfig
from app.domain.rules import LABEL_LENGTH_MAX, LABELS_MAX, QUALITY_MAX, QUALITY_MIN, VARIANT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.card import Card, Range, SeedRange

_MILLION = 1_000_000
_OF_ADDRESSES = ("invalid_address", "address_not_available", "bucket_not_allowed")


class Acceptance(NamedTuple):
    """A rule as documents show it.

    Attributes:
        rule: Its name.
        accepted: The values that pass, in a few words.
        codes: The codes of its violations.
    """

    rule: str
    accepted: str
    codes: tuple[str, ...]


def list_acceptances(card: Card) -> tuple[Acceptance, ...]:
    """Every rule, in the order in which they run."""
    return tuple(
        Acceptance(*row)
        for row in (*_list_word_rules(card), *_list_number_rules(card), *_list_file_rules(card))
    )


def _join(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _format_range(limits: Range | SeedRange | None) -> str:
    if limits is None:
        return "none"
    return f"{limits.min:.10g} to {limits.max:.10g}"


def _list_word_rules(card: Card) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    parameters = card.parameters
    sizes = _join(f"{name} (Preview)" if size.preview else name for name, size in card.image_sizes.items())
    pairs = _join("+".join(each) for each in parameters.response_modalities)
    yield "model", "an id or alias that the key may use", ("model_not_allowed", "model_retired")
    yield "conversation", "the model that began the conversation", ("other_model",)
    yield "texts", "valid Unicode; the prompt is not blank", ("empty_prompt", "invalid_text")
    yield "aspect_ratio", _join(card.aspect_ratios), ("unsupported_aspect_ratio",)
    yield (
        "image_size",
        f"{sizes}, within the key's limit and previews",
        ("unsupported_image_size", "image_size_not_allowed", "preview_not_allowed"),
    )
    yield "response_modalities", pairs, ("unsupported_response_modalities",)
    yield "thinking_level", _join(parameters.thinking_levels), ("unsupported_thinking_level",)
    categories, thresholds = len(parameters.safety_categories), len(parameters.safety_thresholds)
    yield (
        "safety_settings",
        f"{categories} categories once each, {thresholds} thresholds",
        ("unsupported_safety_category", "unsupported_safety_threshold", "duplicate_safety_category"),
    )
    formats = f"{_join(parameters.output_mime_types)}, JPEG with a quality of {QUALITY_MIN} to {QUALITY_MAX}"
    yield (
        "output_format",
        f"{formats}; if the back end offers a choice",
        (
            "output_mime_type_not_available",
            "unsupported_output_mime_type",
            "output_compression_quality_not_available",
            "output_compression_quality_out_of_range",
            "output_compression_quality_needs_jpeg",
        ),
    )
    yield "grounding", _join(card.grounding) or "none", ("unsupported_grounding",)
    yield "prices", "members that have a price, for strict tenants", ("unpriced_member",)
    yield (
        "service_tier",
        _join(card.list_service_tiers()),
        ("unsupported_service_tier",),
    )
    yield (
        "labels",
        f"at most {LABELS_MAX}, names and values of up to {LABEL_LENGTH_MAX} printable characters",
        ("too_many_labels", "label_too_long", "empty_label", "invalid_label", "duplicate_label"),
    )


def _list_number_rules(card: Card) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    parameters, output_max = card.parameters, card.tokens.output_max
    images_max = RequestConfig().images_per_request_max
    yield "count", f"1 to {images_max} pictures, each a call of its own", ("n_out_of_range",)
    yield "candidate_count", str(parameters.candidate_count_max), ("unsupported_candidate_count",)
    for name in ("temperature", "top_p"):
        accepted = _format_range(getattr(parameters, name))
        yield name, accepted, (f"{name}_out_of_range", f"unsupported_{name}")
    yield "top_k", "any" if parameters.top_k_offered else "none", ("unsupported_top_k",)
    yield "seed", _format_range(parameters.seed), ("seed_out_of_range", "unsupported_seed")
    yield "variant", f"0 to {VARIANT_MAX}", ("variant_out_of_range",)
    yield (
        "max_output_tokens",
        f"1 to {output_max}, enough for the picture",
        ("max_output_tokens_out_of_range", "max_output_tokens_too_small"),
    )
    yield (
        "output_tokens",
        f"at most {output_max} for picture, words and thoughts",
        ("output_tokens_over_limit",),
    )


def _list_file_rules(card: Card) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    images, documents = card.images, card.documents
    types = _join(name.removeprefix("image/") for name in images.mime_types)
    pixels = f"{PIXELS_MAX // _MILLION} megapixels (the gateway's own limit)"
    size = f"{images.inline_bytes_max // _MILLION} MB and {pixels}"
    yield (
        "images",
        f"up to {images.count_max}, each up to {size}: {types}, complete, or gs:// in an allowed bucket",
        (
            "too_many_images", "image_too_large", "too_many_pixels", "unknown_image_type",
            "unsupported_image_type", "truncated_image", "unreadable_image", "empty_file", "ambiguous_input",
            "missing_input", "mime_type_required", *_OF_ADDRESSES,
        ),
    )  # fmt: skip
    document_limits = (
        f"{_join(documents.mime_types)}, up to {documents.bytes_max // _MILLION} MB and"
        f" {documents.tokens_per_file_max} tokens a file, {documents.tokens_total_max} tokens in all"
    )
    yield (
        "documents",
        document_limits if documents.mime_types else "none",
        (
            "documents_not_supported", "document_too_large", "unknown_document_type",
            "unsupported_document_type", "truncated_document", "unreadable_document", "encrypted_document",
            "empty_file", "document_too_many_tokens", "documents_too_many_tokens",
        ),
    )  # fmt: skip
    yield "earlier_addresses", "gs:// addresses in a bucket that is still allowed", ("bucket_not_allowed",)
    types = _join(name.removeprefix("video/") for name in card.video.mime_types) or "any type"
    preview = ", as a Preview feature" if card.video.preview else ""
    yield (
        "videos",
        f"{types}{preview}" if "video" in card.input_modalities else "none",
        (
            "videos_not_supported", "preview_not_allowed", "unknown_video_type", "unsupported_video_type",
            "truncated_video", "unreadable_video", "empty_file",
        ),
    )  # fmt: skip
    yield "input_tokens", f"at most {card.tokens.input_max} in all", ("input_tokens_over_limit",)
