"""Validates a request against the card: all violations at once, before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.card import strip_model_prefix
from app.domain.generation import Notice
from app.domain.media_types import get_declared_type, is_corrected, quote_media_type
from app.domain.policy import Policy
from app.domain.rules import RULES, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card
    from app.domain.errors import Violation
    from app.domain.request import GenerationRequest, Input

__all__ = ["RULES", "Policy", "find_notices", "normalize_request", "validate"]


def _resolve_image_size(request: GenerationRequest, card: Card) -> str | None:
    if request.image_size is None:
        return card.image_size_default
    return card.normalise_image_size(request.image_size)


def _resolve_thinking_level(request: GenerationRequest, card: Card) -> str | None:
    if request.thinking_level is None:
        return card.parameters.thinking_level_default
    folded = request.thinking_level.lower()
    return next((level for level in card.parameters.thinking_levels if level.lower() == folded), None)


def validate(request: GenerationRequest, card: Card, policy: Policy) -> tuple[Violation, ...]:
    """Every violation in a request, in the order of the rules; empty for a valid one. Never raises.

    Args:
        request: The caller's request, with inputs already inspected.
        card: The model's facts.
        policy: The deployment's limits and the caller's rights.
    """
    case = Case(
        request, card, policy, _resolve_image_size(request, card), _resolve_thinking_level(request, card)
    )
    return tuple(violation for rule in RULES for violation in rule(case))


def _normalize_addresses(items: tuple[Input, ...]) -> tuple[Input, ...]:
    """The same inputs; files given by address get their declared type in its usual spelling."""
    return tuple(
        item if item.uri is None else replace(item, declared_mime_type=get_declared_type(item))
        for item in items
    )


def normalize_request(request: GenerationRequest, card: Card) -> GenerationRequest:
    """A valid request with the card's spellings of id and literals, and with the size filled in.

    Only spellings change, and ``find_notices`` reports each change. Parameters that the caller left out stay
    None, except for the size, which decides the price.
    """
    modalities_wanted = sorted(request.response_modalities)
    modalities = next(
        (each for each in card.parameters.response_modalities if sorted(each) == modalities_wanted),
        request.response_modalities,
    )
    return replace(
        request,
        model=card.id,
        image_size=_resolve_image_size(request, card),
        thinking_level=_resolve_thinking_level(request, card) if request.thinking_level is not None else None,
        response_modalities=modalities,
        images=_normalize_addresses(request.images),
        documents=_normalize_addresses(request.documents),
        videos=_normalize_addresses(request.videos),
    )


def find_notices(original: GenerationRequest, request: GenerationRequest, card: Card) -> tuple[Notice, ...]:
    """What the caller should know about a valid request: changed spellings, Preview, deprecation.

    Args:
        original: As the caller sent it.
        request: The same, normalised.
        card: The model's facts.
    """
    return tuple(_iterate_notices(original, request, card))


def _iterate_notices(original: GenerationRequest, request: GenerationRequest, card: Card) -> Iterator[Notice]:
    for name in ("image_size", "thinking_level"):
        before, after = getattr(original, name), getattr(request, name)
        if before is not None and before != after:
            yield Notice(f"normalised_{name}", f"{name} was read as {after}, which is the model's spelling.")
    for before_input, after_input in zip(original.inputs, request.inputs, strict=True):
        if before_input.declared_mime_type != after_input.declared_mime_type:
            detail = f"The type at {after_input.pointer} was read as {after_input.declared_mime_type}."
            yield Notice("normalised_mime_type", detail)
        yield from _find_file_notices(after_input)
    size = card.image_sizes[request.image_size or card.image_size_default]
    if size.preview:
        yield Notice("preview_feature", f"Pictures of size {request.image_size} are a Preview feature.")
    if request.videos and card.video.preview:
        yield Notice("preview_feature", "Video input is a Preview feature.")
    alias = next((alias for alias in card.aliases if alias.id == strip_model_prefix(original.model)), None)
    if alias is not None and alias.deprecated:
        yield Notice("model_deprecated", f"The name {alias.id} is deprecated; use {card.id}.")
    if card.lifecycle.stage == "deprecated":
        successor = f"; use {card.lifecycle.replacement}" if card.lifecycle.replacement else ""
        yield Notice("model_deprecated", f"{card.title} is deprecated{successor}.")


def _find_file_notices(item: Input) -> Iterator[Notice]:
    if is_corrected(item):
        claim = quote_media_type(item.declared_mime_type or "")
        detail = f"The file at {item.pointer} was declared as {claim}; it is sent as {item.mime_type}."
        yield Notice("corrected_mime_type", detail)
    if not item.plain:
        detail = f"The base64 at {item.pointer} was read without line breaks and the head of a data URL."
        yield Notice("normalised_base64", detail)
    if item.frames > 1:
        detail = f"The image at {item.pointer} has {item.frames} frames; expect the model to see one of them."
        yield Notice("animated_image", detail)
