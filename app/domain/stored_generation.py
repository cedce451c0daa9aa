"""A generation as it is stored under its id: result, parameters in force, and conversation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.domain.conversation import Conversation  # noqa: TC001 - the types are read where it is kept
from app.domain.generation import Generation  # noqa: TC001
from app.domain.request import Grounding  # noqa: TC001

if TYPE_CHECKING:
    from app.domain.card import Card, Range
    from app.domain.request import GenerationRequest

Ending = Literal["several_calls", "googles_words", "too_large", "too_many_turns", "not_kept", "unreadable"]
"""Why a generation cannot be continued; ``ENDINGS`` has a sentence for each."""

ENDINGS: dict[Ending, str] = {
    "several_calls": "It was made with n above 1, so no one picture is the last; continue one of n 1.",
    "googles_words": "It was asked in Google's own words, which carry the conversation; go on there.",
    "too_large": "Its files together are more than the gateway keeps for a conversation.",
    "too_many_turns": "The conversation has as many turns as the gateway keeps.",
    "not_kept": "The store did not take its files.",
    "unreadable": "The upstream's answer cannot be sent back to it.",
}

_GENERATION_ID = re.compile(r"gen_[0-9a-f]{24}")


def is_generation_id(generation_id: str) -> bool:
    """Whether the text has the form of a generation's id."""
    return _GENERATION_ID.fullmatch(generation_id) is not None


@dataclass(frozen=True, slots=True)
class Effective:
    """Every parameter in force; None where the model or the upstream chose, or where the model has none."""

    model: str
    aspect_ratio: str | None
    image_size: str
    n: int
    response_modalities: tuple[str, ...]
    output_mime_type: str | None
    output_compression_quality: int | None
    temperature: float | None
    top_p: float | None
    seeds: tuple[int | None, ...]
    max_output_tokens: int
    thinking_level: str
    variant: int
    continue_from: str | None
    grounding: Grounding


def build_effective(request: GenerationRequest, card: Card, seeds: tuple[int | None, ...]) -> Effective:
    """The parameters of a normalized request, with the card's defaults."""
    parameters = card.parameters
    return Effective(
        model=card.id,
        aspect_ratio=request.aspect_ratio,
        image_size=request.image_size or card.image_size_default,
        n=request.n,
        response_modalities=request.response_modalities,
        output_mime_type=request.output_mime_type,
        output_compression_quality=request.output_compression_quality,
        temperature=_get_default(request.temperature, parameters.temperature),
        top_p=_get_default(request.top_p, parameters.top_p),
        seeds=seeds,
        max_output_tokens=request.max_output_tokens or card.tokens.output_max,
        thinking_level=request.thinking_level or parameters.thinking_level_default,
        variant=request.variant,
        continue_from=request.earlier.conversation.id if request.earlier is not None else None,
        grounding=request.grounding,
    )


def _get_default(value: float | None, limits: Range | None) -> float | None:
    """The requested value, else the card's default; None for a parameter that the model does not offer."""
    if value is None and limits is not None:
        return limits.default
    return value


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """A generation as it is stored under its id.

    Attributes:
        generation: The result, with the upstream's own answer, so that a repetition can be answered in any
            dialect. It is stored before its hold is settled, so ``created_ms`` is this machine's time.
        fingerprint: The fingerprint of the work.
        conversation: The turns up to this one; None where it cannot be continued.
        ending: Why it cannot be continued, or None.
    """

    generation: Generation
    fingerprint: str
    effective: Effective
    conversation: Conversation | None = None
    ending: Ending | None = None
