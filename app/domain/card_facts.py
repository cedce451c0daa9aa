"""Facts of a card that ``flashgate cards check`` does not check, each with why."""

from __future__ import annotations

from typing import Final

_PEOPLE: Final = "for people"
_OWN: Final = "the gateway's own choice"
_NO_FILES: Final = "no such file is at hand; what is not refused is settled as reported"

UNCHECKED: Final = {
    "title": _PEOPLE,
    "also_known_as": _PEOPLE,
    "sources": _PEOPLE,
    "evidence": _PEOPLE,
    "aliases": "names in the gateway alone",
    "lifecycle.released": _PEOPLE,
    "lifecycle.deprecated": "no back end states it",
    "lifecycle.retires.day": "a back end states no day; whether it serves the model is compared",
    "lifecycle.retires.status": "a back end states no day; whether it serves the model is compared",
    "lifecycle.retires.source": _PEOPLE,
    "lifecycle.replacement": "no back end states it",
    "model_ids": "the name under which a back end is asked",
    "locations": "the configured location alone is asked",
    "input_modalities": "follows from the files that it takes",
    "output_modalities": "follows from parameters.response_modalities",
    "images.inline_bytes_max": _NO_FILES,
    "images.cloud_storage_bytes_max": _NO_FILES,
    "images.mime_types": _NO_FILES,
    "documents.mime_types": _NO_FILES,
    "documents.bytes_max": _NO_FILES,
    "documents.console_bytes_max": "a limit of Google's upload page",
    "documents.tokens_per_file_max": _NO_FILES,
    "documents.tokens_total_max": _NO_FILES,
    "documents.tokens_per_page_by_resolution.ultra_high": "no source has a number; assumed",
    "video": _NO_FILES,
    "searches.tokens_per_call": _OWN,
    "searches.queries_per_call": _OWN,
    "image_sizes.megapixels": "follows from pixels",
    "image_sizes.preview": "no back end states it",
    "image_sizes.qualities": _OWN,
    "image_sizes.seconds": "not measured; compare `flashgate_upstream_duration_seconds`",
    "image_sizes.timeout_s": _OWN,
    "image_sizes.spellings": _OWN,
    "image_size_default": _OWN,
    "pixels_unsettled": "the sources disagree; the area is compared",
    "parameters.thinking_level_default": "no back end states it",
    "parameters.safety_categories": "each is sent with parameters.safety_thresholds",
    "text_allowance": "an allowance of the gateway",
    "security_controls": _PEOPLE,
}
"""By the path of the fact, or of one above it."""

_CALL: Final = "only a call shows it: --may-spend"

UNCHECKED_WITHOUT_SPENDING: Final = dict.fromkeys(
    (
        *("id", "images.count_max", "grounding", "image_sizes.tokens", "aspect_ratios", "pixels"),
        *("parameters.top_k_offered", "parameters.candidate_count_max", "parameters.seed"),
        *("parameters.thinking_levels", "parameters.response_modalities", "parameters.safety_thresholds"),
        "parameters.output_mime_types",
    ),
    _CALL,
)
"""Facts that are not checked for free."""
