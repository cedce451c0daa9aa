"""The card's rules about words and numbers: one small function for each row of the card.

A rule yields every fault that it finds and never raises; what another rule has refused it passes over.
Rules about files are in ``app/domain/rules_inputs.py``.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from app.domain.errors import Violation
from app.domain.pointers import build_pointer
from app.domain.request import SEEDS_PER_VARIANT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card, Range
    from app.domain.policy import Policy
    from app.domain.request import GenerationRequest

LABELS_MAX = 8
LABEL_LENGTH_MAX = 63
VARIANT_MAX = 2**32 // SEEDS_PER_VARIANT - 1
"""The last variant before the seeds go round."""
QUALITY_MIN, QUALITY_MAX = 0, 100

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})


class Case(NamedTuple):
    """One request beside what it is measured against.

    Attributes:
        image_size: The card's literal for the size asked for, or None where there is none.
        thinking_level: The card's spelling of the level asked for, or None where there is none.
    """

    request: GenerationRequest
    card: Card
    policy: Policy
    image_size: str | None
    thinking_level: str | None


def is_unicode(text: str) -> bool:
    """Whether the text can be sent at all: a lone half of a surrogate pair has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_blank(text: str) -> bool:
    """Nothing but spaces, controls and invisible marks.

    Each character is looked up once, however often it occurs: a megabyte of blanks costs little.
    """
    rest = text.lstrip()
    return not rest or (
        unicodedata.category(rest[0]) in _INVISIBLE
        and all(unicodedata.category(character) in _INVISIBLE for character in set(rest))
    )


def model(case: Case) -> Iterator[Violation]:
    """The caller may use it, and it has not been retired."""
    models, card = case.policy.models, case.card
    if models and card.id not in models:
        yield Violation(
            "/model", "model_not_allowed", f"This caller may not use {card.id}.", tuple(sorted(models))
        )
    if card.lifecycle.stage == "retired":
        successor = f" Use {card.lifecycle.replacement}." if card.lifecycle.replacement else ""
        yield Violation("/model", "model_retired", f"{card.title} is no longer offered.{successor}")


def texts(case: Case) -> Iterator[Violation]:
    """The prompt says something, and every text can be encoded."""
    named = (("/prompt", case.request.prompt), ("/system_instruction", case.request.system_instruction or ""))
    for pointer, text in named:
        if not is_unicode(text):
            yield Violation(pointer, "invalid_text", "The text holds half a surrogate pair.")
    if _is_blank(case.request.prompt):
        yield Violation("/prompt", "empty_prompt", "The prompt is empty.")


def aspect_ratio(case: Case) -> Iterator[Violation]:
    """One of the card's ratios, or none."""
    asked, card = case.request.aspect_ratio, case.card
    if asked is not None and asked not in card.aspect_ratios:
        detail = f"{card.title} does not draw this aspect ratio."
        yield Violation("/aspect_ratio", "unsupported_aspect_ratio", detail, card.aspect_ratios)


def image_size(case: Case) -> Iterator[Violation]:
    """One of the card's sizes in any accepted spelling, within the caller's limit and previews."""
    sizes = tuple(case.card.image_sizes)
    size = case.image_size
    if size is None:
        detail = f"{case.card.title} does not draw this size."
        yield Violation("/image_size", "unsupported_image_size", detail, sizes)
        return
    largest = case.policy.max_image_size
    within = sizes if largest is None else case.card.list_sizes_up_to(largest)
    if size not in within:
        detail = f"This caller may ask for {largest} at most."
        yield Violation("/image_size", "image_size_not_allowed", detail, within)
    if case.card.image_sizes[size].preview and not case.policy.allows_preview(size):
        detail = f"{size} is a Preview feature, which is not enabled for this caller."
        allowed = tuple(
            name
            for name in within
            if not case.card.image_sizes[name].preview or case.policy.allows_preview(name)
        )
        yield Violation("/image_size", "preview_not_allowed", detail, allowed)


def count(case: Case) -> Iterator[Violation]:
    """At least one picture and no more than the gateway makes at once."""
    most = case.policy.n_max
    if not 1 <= case.request.n <= most:
        yield Violation("/n", "n_out_of_range", f"Between 1 and {most} pictures can be asked for at once.")


def candidate_count(case: Case) -> Iterator[Violation]:
    """The model makes one candidate a call."""
    asked, most = case.request.candidate_count, case.card.parameters.candidate_count_max
    if asked is not None and not 1 <= asked <= most:
        detail = f"The model makes {most} candidate a call; more pictures take more calls."
        yield Violation("/candidate_count", "unsupported_candidate_count", detail, tuple(range(1, most + 1)))


def response_modalities(case: Case) -> Iterator[Violation]:
    """A picture, with or without words, in any order."""
    offered = case.card.parameters.response_modalities
    asked = sorted(case.request.response_modalities)
    if asked not in [sorted(each) for each in offered]:
        detail = "The answer can be a picture, or words and a picture."
        allowed = tuple("+".join(each) for each in offered)
        yield Violation("/response_modalities", "unsupported_response_modalities", detail, allowed)


def _within(name: str, asked: float | None, limits: Range) -> Iterator[Violation]:
    # What is not a number compares as outside of everything.
    if asked is not None and not limits.min <= asked <= limits.max:
        detail = f"A number from {limits.min} to {limits.max} is expected."
        yield Violation(f"/{name}", f"{name}_out_of_range", detail)


def temperature(case: Case) -> Iterator[Violation]:
    """Within the card's range; not a number is not within it."""
    yield from _within("temperature", case.request.temperature, case.card.parameters.temperature)


def top_p(case: Case) -> Iterator[Violation]:
    """Within the card's range."""
    yield from _within("top_p", case.request.top_p, case.card.parameters.top_p)


def top_k(case: Case) -> Iterator[Violation]:
    """Refused where the card does not offer it, rather than dropped."""
    if case.request.top_k is not None and not case.card.parameters.top_k_offered:
        detail = f"{case.card.title} has no top_k; use top_p or temperature."
        yield Violation("/top_k", "unsupported_top_k", detail)


def seed(case: Case) -> Iterator[Violation]:
    """A 32-bit number."""
    asked, parameters = case.request.seed, case.card.parameters
    if asked is not None and not parameters.seed_min <= asked <= parameters.seed_max:
        detail = f"A whole number from {parameters.seed_min} to {parameters.seed_max} is expected."
        yield Violation("/seed", "seed_out_of_range", detail)


def variant(case: Case) -> Iterator[Violation]:
    """Few enough that their seeds do not go round."""
    if not 0 <= case.request.variant <= VARIANT_MAX:
        detail = f"A whole number from 0 to {VARIANT_MAX} is expected."
        yield Violation("/variant", "variant_out_of_range", detail)


def max_output_tokens(case: Case) -> Iterator[Violation]:
    """Within the card's limit, and enough for the picture that is asked for."""
    asked, most = case.request.max_output_tokens, case.card.tokens.output_max
    if asked is None:
        return
    if not 1 <= asked <= most:
        detail = f"A whole number from 1 to {most} is expected."
        yield Violation("/max_output_tokens", "max_output_tokens_out_of_range", detail)
    elif case.image_size is not None and asked < case.card.image_tokens(case.image_size):
        needed = case.card.image_tokens(case.image_size)
        detail = f"A picture of size {case.image_size} takes {needed} output tokens."
        yield Violation("/max_output_tokens", "max_output_tokens_too_small", detail)


def output_tokens(case: Case) -> Iterator[Violation]:
    """One call's picture, words and thoughts fit into the model's output."""
    if case.image_size is None or case.thinking_level is None:
        return
    needed = case.card.image_tokens(case.image_size) + case.card.text_allowance.per_image[case.thinking_level]
    if needed > case.card.tokens.output_max:
        detail = f"About {needed} output tokens are needed; the model has {case.card.tokens.output_max}."
        yield Violation("/image_size", "output_tokens_over_limit", detail)


def thinking_level(case: Case) -> Iterator[Violation]:
    """One of the card's levels, in any case of letters."""
    if case.thinking_level is None:
        levels = case.card.parameters.thinking_levels
        detail = f"{case.card.title} does not think at this level."
        yield Violation("/thinking_level", "unsupported_thinking_level", detail, levels)


def safety_settings(case: Case) -> Iterator[Violation]:
    """Known categories and thresholds, each category once."""
    parameters = case.card.parameters
    seen: set[str] = set()
    for index, setting in enumerate(case.request.safety_settings):
        pointer = f"/safety_settings/{index}"
        if setting.category not in parameters.safety_categories:
            detail = "There is no such harm category for this model."
            yield Violation(
                f"{pointer}/category", "unsupported_safety_category", detail, parameters.safety_categories
            )
        elif setting.category in seen:
            detail = "The category has been set before."
            yield Violation(f"{pointer}/category", "duplicate_safety_category", detail)
        if setting.threshold not in parameters.safety_thresholds:
            detail = "There is no such threshold."
            yield Violation(
                f"{pointer}/threshold", "unsupported_safety_threshold", detail, parameters.safety_thresholds
            )
        seen.add(setting.category)


def output_format(case: Case) -> Iterator[Violation]:
    """A choice of format only where the back end has one; the gateway never encodes anew."""
    asked, quality = case.request.output_mime_type, case.request.output_compression_quality
    offered = case.card.parameters.output_mime_types
    available = "output_mime_type" in case.policy.capabilities
    unavailable = "The upstream chooses the format of its pictures, and the gateway never re-encodes them."
    if asked is not None and not available:
        yield Violation("/output_mime_type", "output_mime_type_not_available", unavailable)
    elif asked is not None and asked not in offered:
        detail = "The upstream does not deliver this format."
        yield Violation("/output_mime_type", "unsupported_output_mime_type", detail, offered)
    pointer = "/output_compression_quality"
    if quality is None:
        return
    if not available:
        yield Violation(pointer, "output_compression_quality_not_available", unavailable)
        return
    if not QUALITY_MIN <= quality <= QUALITY_MAX:
        detail = f"A whole number from {QUALITY_MIN} to {QUALITY_MAX} is expected."
        yield Violation(pointer, "output_compression_quality_out_of_range", detail)
    if asked != "image/jpeg":
        detail = "Only JPEG has a compression quality; ask for JPEG as the format as well."
        yield Violation(pointer, "output_compression_quality_needs_jpeg", detail)


def grounding(case: Case) -> Iterator[Violation]:
    """Only searches that the model can make."""
    for name in ("web_search", "image_search"):
        if getattr(case.request.grounding, name) and name not in case.card.grounding:
            detail = f"{case.card.title} is not known to make this kind of search."
            yield Violation(f"/grounding/{name}", "unsupported_grounding", detail, case.card.grounding)


def labels(case: Case) -> Iterator[Violation]:
    """Few, short, and each of them once."""
    found = case.request.labels
    if len(found) > LABELS_MAX:
        yield Violation("/labels", "too_many_labels", f"{len(found)} labels; {LABELS_MAX} at most.")
    seen: set[str] = set()
    for name, value in found[: LABELS_MAX + 1]:
        place = build_pointer("labels", name)
        if not 1 <= len(name) <= LABEL_LENGTH_MAX or len(value) > LABEL_LENGTH_MAX:
            detail = f"A label has 1 to {LABEL_LENGTH_MAX} characters, and its value no more than that."
            yield Violation(place, "label_too_long" if name else "empty_label", detail)
        elif not (name + value).isprintable():
            yield Violation(place, "invalid_label", "A label is made of printable characters.")
        if name in seen:
            yield Violation(place, "duplicate_label", "The label has been set before.")
        seen.add(name)


def conversation(case: Case) -> Iterator[Violation]:
    """A conversation goes on with the model that began it: signatures are bound to it."""
    earlier = case.request.earlier
    if earlier is not None and earlier.conversation.model != case.card.id:
        began = earlier.conversation.model
        detail = f"The conversation was begun with {began}, and only that model reads its own signatures."
        yield Violation("/continue_from", "other_model", detail, (began,))


RULES = (
    model,
    conversation,
    texts,
    aspect_ratio,
    image_size,
    count,
    candidate_count,
    response_modalities,
    temperature,
    top_p,
    top_k,
    seed,
    variant,
    max_output_tokens,
    output_tokens,
    thinking_level,
    safety_settings,
    output_format,
    grounding,
    labels,
)
