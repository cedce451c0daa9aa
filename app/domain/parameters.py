"""Which parameters a request used, for reports and for planning a migration.

All values are words of the card or of this module, so their number is bounded whatever callers send, and no
text of theirs is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.domain.card import Card
    from app.domain.request import GenerationRequest

IMAGE_COUNTS: Final = (1, 2, 4, 8, 14)
"""Most reference images of each class."""

_OUTPUT_BOUND_MIN: Final = 1024


def list_parameters(request: GenerationRequest, card: Card) -> tuple[str, ...]:
    """The parameters of a normalised request, ``name`` or ``name=value``, in a fixed order.

    The size is always there, the others if the request has them. Numbers are in classes: reference images by
    IMAGE_COUNTS, the caller's own bound on output by powers of two.
    """
    return tuple(_iterate_parameters(request, card))


def _iterate_parameters(request: GenerationRequest, card: Card) -> Iterator[str]:
    yield f"image_size={request.image_size or card.image_size_default}"
    named = {
        "aspect_ratio": request.aspect_ratio,
        "thinking_level": request.thinking_level,
        "service_tier": request.service_tier,
        "output_mime_type": request.output_mime_type,
    }
    yield from (f"{name}={value}" for name, value in named.items() if value is not None)
    if request.response_modalities != ("IMAGE",):
        yield f"response_modalities={_join(request.response_modalities)}"
    if request.grounding.web_search:
        yield "grounding=web_search"
    if request.grounding.image_search:
        yield "grounding=image_search"
    flags = {
        "seed": request.seed is not None,
        "temperature": request.temperature is not None,
        "top_p": request.top_p is not None,
        "top_k": request.top_k is not None,
        "n": request.n > 1,
        "conversation": request.earlier is not None,
        "output_compression_quality": request.output_compression_quality is not None,
    }
    yield from (name for name, is_used in flags.items() if is_used)
    if request.max_output_tokens is not None and not request.bounded:
        yield f"max_output_tokens={_classify_bound(request.max_output_tokens)}"
    yield from _list_files(request)


def _list_files(request: GenerationRequest) -> Iterator[str]:
    if request.images:
        most = next((each for each in IMAGE_COUNTS if each >= len(request.images)), "more")
        yield f"images={most}"
    for kind, files in (("documents", request.documents), ("videos", request.videos)):
        if files:
            types = {item.mime_type or item.declared_mime_type or "" for item in files}
            yield f"{kind}={_join(sorted(types))}"
    resolutions = {item.resolution for item in request.inputs if item.resolution is not None}
    if resolutions:
        yield f"media_resolution={_join(sorted(resolutions))}"


def _classify_bound(tokens: int) -> int:
    """The power of two that is at least so many tokens."""
    return max(_OUTPUT_BOUND_MIN, 1 << (tokens - 1).bit_length())


def _join(words: Iterable[str]) -> str:
    return "+".join(words)
