"""The canonical fingerprint: equal for equal work, different for any difference that the model can see."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from app.domain.card import Card, Range
    from app.domain.request import GenerationRequest, Input

VERSION = 1


def compute_digest(data: bytes | bytearray | memoryview) -> str:
    """BLAKE3 of bytes in hexadecimal, 64 digits."""
    return blake3(data).hexdigest()


def _normalize_text(value: str) -> str:
    return unicodedata.normalize("NFC", value)


def _describe_input(item: Input) -> list[str]:
    # An address and a file that holds the same text have equal digests and are different inputs. The type is
    # the one sent upstream: that of the bytes, or the claim where the bytes are elsewhere.
    return [
        item.kind,
        "bytes" if item.uri is None else "uri",
        item.mime_type or item.declared_mime_type or "",
        item.digest,
    ]


def compute_fingerprint(request: GenerationRequest, card: Card, tenant_id: str) -> str:
    """64 hexadecimal digits that name this work of this tenant (docs/reliability.md R35).

    Defaults come from the card, texts are in NFC, numbers are exact doubles, and inputs are digests in the
    order in which the model sees them. Labels and cache directives do not take part. A request in Google's
    own words that says no more than these is the same work.
    """
    parameters = card.parameters

    def number(value: float | None, limits: Range | None) -> str:
        if value is None and limits is not None:
            value = limits.default
        return "" if value is None else (float(value) + 0.0).hex()  # -0.0 is the same as 0.0

    canonical = {
        "version": VERSION,
        "model": card.id,
        "prompt": _normalize_text(request.prompt),
        "system_instruction": _normalize_text(request.system_instruction or ""),
        "inputs": [_describe_input(item) for item in request.inputs],
        "aspect_ratio": request.aspect_ratio or "",
        "image_size": request.image_size or card.image_size_default,
        "n": request.n,
        "response_modalities": sorted(request.response_modalities),
        "output": [request.output_mime_type or "", request.output_compression_quality],
        "temperature": number(request.temperature, parameters.temperature),
        "top_p": number(request.top_p, parameters.top_p),
        "seed": request.seed,
        "max_output_tokens": request.max_output_tokens or card.tokens.output_max,
        "thinking_level": request.thinking_level or parameters.thinking_level_default,
        "safety": sorted([item.category, item.threshold] for item in request.safety_settings),
        "grounding": [request.grounding.web_search, request.grounding.image_search],
        "variant": request.variant,
    }
    if request.verbatim is not None and request.verbatim.identity:
        canonical["verbatim"] = request.verbatim.identity
    if request.earlier is not None:
        # Each generation has its own signatures, so the same turns made again are another conversation.
        canonical["continue_from"] = request.earlier.conversation.id
    text = json.dumps(canonical, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    key = blake3(f"flashgate fingerprint {VERSION} {tenant_id}".encode()).digest()
    return blake3(text.encode(errors="surrogatepass"), key=key).hexdigest()
