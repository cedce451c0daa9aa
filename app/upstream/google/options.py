"""Request options that the SDK's own fields do not cover: service tiers and ``responseFormat``.

The Gemini Developer API takes the service tier in the body, Vertex AI in headers
(docs/model.md#service-tiers). Ratio and size are sent as ``imageConfig``, or as its successor
``responseFormat``, which uses other enum values (docs/model.md#sizes-in-requests).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from app.domain.bill_labels import merge_labels
from app.domain.size_words import format_size_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.request import GenerationRequest
    from app.upstream.google.backend import BackEnd

_NUMBERS: Final = {
    "1": "ONE", "2": "TWO", "3": "THREE", "4": "FOUR", "5": "FIVE", "8": "EIGHT", "9": "NINE",
    "16": "SIXTEEN", "21": "TWENTY_ONE",
}  # fmt: skip
_RATIOS_WITHOUT_A_WORD: Final = frozenset({"9:21"})


def build_headers(back_end: BackEnd, request: GenerationRequest) -> dict[str, str]:
    """Vertex AI's headers for Provisioned Throughput and the service tier; empty for Gemini."""
    headers: dict[str, str] = {}
    if back_end.kind != "gemini":
        if back_end.request_type is not None:
            headers["X-Vertex-AI-LLM-Request-Type"] = back_end.request_type
        if request.service_tier in {"flex", "priority"}:
            headers["X-Vertex-AI-LLM-Shared-Request-Type"] = request.service_tier
    return headers


def uses_response_format(back_end: BackEnd, request: GenerationRequest) -> bool:
    """Whether ``responseFormat`` is configured and can express this request."""
    if back_end.image_style != "response_format" or not (request.aspect_ratio or request.image_size):
        return False
    if request.output_mime_type is not None or request.output_compression_quality is not None:
        return False
    return request.aspect_ratio not in _RATIOS_WITHOUT_A_WORD


def build_response_format(back_end: BackEnd, request: GenerationRequest) -> dict[str, Any]:
    """The members to merge into the body in place of ``imageConfig``."""
    ratio, size = request.aspect_ratio, request.image_size
    words = {"aspectRatio": ratio and _format_ratio(ratio), "imageSize": size and format_size_word(size)}
    image = {name: value for name, value in words.items() if value is not None}
    newer: Any = {"image": image} if back_end.kind == "gemini" else [{"image": image}]
    return {"generationConfig": {"responseFormat": newer}}


def _format_ratio(ratio: str) -> str:
    across, _, down = ratio.partition(":")
    return f"ASPECT_RATIO_{_NUMBERS[across]}_BY_{_NUMBERS[down]}"


def knows_labels(back_end: BackEnd) -> bool:
    """Whether labels of calls are in the back end's bill (docs/model.md#labels)."""
    return back_end.kind != "gemini"


def place_labels(skeleton: bytes, labels: Mapping[str, str]) -> bytes:
    """Put labels into a body; those that it has already stay as they are written."""
    body = json.loads(skeleton)
    body["labels"] = merge_labels(labels, body.get("labels") or {})
    return json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")


def place_tier(back_end: BackEnd, skeleton: bytes, tier: str) -> bytes:
    """Put the tier into a body for the Gemini Developer API; Vertex AI reads it from headers only."""
    body = json.loads(skeleton)
    for name in ("serviceTier", "service_tier"):
        body.pop(name, None)
    if back_end.kind == "gemini":
        body["serviceTier"] = tier
    return json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")
