"""Every rule at the limits of every card: the last value that passes and the first that does not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from app.domain.policy import Policy, RequestConfig
from app.domain.request import Grounding
from app.domain.rules import LABELS_MAX, VARIANT_MAX
from app.domain.validation import RULES, validate
from tests.domain.validation_cases import (
    ANYTHING,
    BUCKETS,
    CATALOGUE,
    VERTEX,
    bytes_input,
    document,
    image,
    many,
    request,
    safety,
    talking,
    variation,
    video,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.domain.card import Card
    from app.domain.request import GenerationRequest

CARDS = list(CATALOGUE)
LETTERS_A_TOKEN = 3


class AtLimit(NamedTuple):
    """A request at a limit of a card; ``code`` is None for one that passes."""

    card: Card
    rule: str
    code: str | None
    request: GenerationRequest
    policy: Policy = ANYTHING


def _case_of(card: Card) -> Callable[..., AtLimit]:
    """Makes cases of one card."""

    def case(rule: str, code: str | None, policy: Policy = ANYTHING, **fields: Any) -> AtLimit:
        return AtLimit(card, rule, code, request(**fields), policy)

    return case


def _words(card: Card) -> Iterator[AtLimit]:
    case = _case_of(card)
    yield case("model", None, Policy(models=frozenset({card.id})))
    yield case("model", "model_not_allowed", Policy(models=frozenset({"another"})))
    yield AtLimit(card, "conversation", None, talking(model=card.id, images=0, pictures=0))
    yield AtLimit(card, "conversation", "other_model", talking(model="another", images=0, pictures=0))
    again = talking(model=card.id, images=0, pictures=0, addresses=("gs://inputs/a.pdf",))
    yield AtLimit(card, "earlier_addresses", None, again, BUCKETS)
    elsewhere = replace(BUCKETS, request=RequestConfig(gcs_buckets=frozenset({"other"})))
    yield AtLimit(card, "earlier_addresses", "bucket_not_allowed", again, elsewhere)
    yield case("texts", None, prompt="狐")
    yield case("texts", "empty_prompt", prompt=" ")
    for ratio in card.aspect_ratios:
        yield case("aspect_ratio", None, aspect_ratio=ratio)
        wide, high = ratio.split(":")
        yield case("aspect_ratio", "unsupported_aspect_ratio", aspect_ratio=f"{wide}:{int(high) + 10}")
    for literal, size in card.image_sizes.items():
        for spelling in (literal, literal.lower(), *size.spellings):
            yield case("image_size", None, image_size=spelling)
        if size.preview:
            yield case("image_size", "preview_not_allowed", Policy(preview=frozenset()), image_size=literal)
    *_, largest = card.image_sizes
    yield case("image_size", "image_size_not_allowed", Policy(max_image_size="512"), image_size=largest)
    yield case("image_size", "unsupported_image_size", image_size="9K")
    yield case("labels", None, labels=tuple((f"l{at}", "") for at in range(LABELS_MAX)))
    yield case("labels", "too_many_labels", labels=tuple((f"l{at}", "") for at in range(LABELS_MAX + 1)))


def _choices(card: Card) -> Iterator[AtLimit]:
    case, facts = _case_of(card), card.parameters
    for modalities in facts.response_modalities:
        yield case("response_modalities", None, response_modalities=modalities[::-1])
    yield case("response_modalities", "unsupported_response_modalities", response_modalities=("AUDIO",))
    for level in facts.thinking_levels:
        yield case("thinking_level", None, thinking_level=level.upper())
    yield case("thinking_level", "unsupported_thinking_level", thinking_level="deepest")
    for mime_type in facts.output_mime_types:
        yield case("output_format", None, VERTEX, output_mime_type=mime_type)
        code = None if mime_type == "image/jpeg" else "output_mime_type_not_available"
        yield case("output_format", code, output_mime_type=mime_type)
    yield case("output_format", "unsupported_output_mime_type", VERTEX, output_mime_type="image/gif")
    for search in ("web_search", "image_search"):
        code = None if search in card.grounding else "unsupported_grounding"
        yield case("grounding", code, grounding=Grounding(**{search: True}))
    for tier in ("standard", "flex", "priority"):
        priced = tier == "standard" or tier in card.tier_prices_usd_per_million
        yield case("service_tier", None if priced else "unsupported_service_tier", service_tier=tier)
    yield case("prices", None, unpriced=("/tools/0/x",))
    yield case("prices", "unpriced_member", Policy(needs_prices=True), unpriced=("/tools/0/x",))
    thresholds = facts.safety_thresholds
    for at, category in enumerate(facts.safety_categories):
        pair = (category, thresholds[at % len(thresholds)])
        yield AtLimit(card, "safety_settings", None, safety(pair))
        yield AtLimit(card, "safety_settings", "duplicate_safety_category", safety(pair, pair))
    unknown = safety(("HARM_CATEGORY_BOREDOM", thresholds[0]))
    yield AtLimit(card, "safety_settings", "unsupported_safety_category", unknown)


def _numbers(card: Card) -> Iterator[AtLimit]:
    facts, most = card.parameters, card.tokens.output_max

    def either_side(
        rule: str, code: str, within: tuple[Any, ...], beyond: tuple[Any, ...]
    ) -> Iterator[AtLimit]:
        field = "n" if rule == "count" else rule
        for value in within:
            yield AtLimit(card, rule, None, request(**{field: value}))
        for value in beyond:
            yield AtLimit(card, rule, code, request(**{field: value}))

    for name in ("temperature", "top_p"):
        limits = getattr(facts, name)
        if limits is None:
            yield from either_side(name, f"unsupported_{name}", (None,), (0.0, 1.0))
            continue
        within = (limits.min, limits.default, limits.max)
        below, above = math.nextafter(limits.min, -math.inf), math.nextafter(limits.max, math.inf)
        yield from either_side(name, f"{name}_out_of_range", within, (below, above))
    images_max = Policy().request.images_per_request_max
    yield from either_side("count", "n_out_of_range", (1, images_max), (0, images_max + 1))
    candidates = facts.candidate_count_max
    yield from either_side(
        "candidate_count", "unsupported_candidate_count", (1, candidates), (0, candidates + 1)
    )
    yield from either_side("top_k", "unsupported_top_k", (None,), () if facts.top_k_offered else (1,))
    if (seed := facts.seed) is None:
        yield from either_side("seed", "unsupported_seed", (None,), (0, 1))
    else:
        yield from either_side(
            "seed", "seed_out_of_range", (seed.min, seed.max), (seed.min - 1, seed.max + 1)
        )
    yield from either_side("variant", "variant_out_of_range", (0, VARIANT_MAX), (-1, VARIANT_MAX + 1))
    code = "max_output_tokens_out_of_range"
    yield from either_side("max_output_tokens", code, (most,), (0, most + 1))
    for literal, size in card.image_sizes.items():
        for tokens, told in ((size.tokens, None), (size.tokens - 1, "max_output_tokens_too_small")):
            asked = request(image_size=literal, max_output_tokens=tokens)
            yield AtLimit(card, "max_output_tokens", told, asked)
        needed = size.tokens + card.text_allowance.per_image[facts.thinking_level_default]
        for output_max, told in ((needed, None), (needed - 1, "output_tokens_over_limit")):
            tokens_of = card.tokens.model_copy(update={"output_max": output_max})
            narrow = variation(card, tokens=tokens_of)
            yield AtLimit(narrow, "output_tokens", told, request(image_size=literal))


def _files(card: Card) -> Iterator[AtLimit]:
    images, documents, context = card.images, card.documents, card.tokens.input_max

    def case(rule: str, code: str | None, asked: GenerationRequest) -> AtLimit:
        return AtLimit(card, rule, code, asked)

    yield case("images", None, request(images=many(images.count_max)))
    yield case("images", "too_many_images", request(images=many(images.count_max + 1)))
    heaviest = bytes(images.inline_bytes_max)
    yield case("images", None, image(data=heaviest))
    yield case("images", "image_too_large", image(data=heaviest + b"\x00"))
    for mime_type in images.mime_types:
        yield case("images", None, image(mime_type=mime_type))
    for mime_type in documents.mime_types:
        yield case("images", "unsupported_image_type", image(mime_type=mime_type))
        yield case("documents", None, document(mime_type=mime_type))
    if documents.mime_types:
        # The prompt needs room as well, where a file alone may fill the context.
        most = min(documents.tokens_per_file_max, context - 10)
        pages = most // documents.tokens_per_page_min
        yield case("documents", None, document(mime_type="application/pdf", pages=pages))
        wide = variation(card, tokens=card.tokens.model_copy(update={"input_max": 10 * context}))
        pages = documents.tokens_per_file_max // documents.tokens_per_page_min + 1
        total = documents.model_copy(update={"tokens_total_max": 10 * context})
        longer = document(mime_type="application/pdf", pages=pages)
        code = "document_too_many_tokens"
        yield AtLimit(variation(wide, documents=total), "documents", code, longer)
        heaviest = bytes(documents.bytes_max)
        yield case("documents", None, document(mime_type="application/pdf", data=heaviest))
        heavier = document(mime_type="application/pdf", data=heaviest + b"\x00")
        yield case("documents", "document_too_large", heavier)
    else:
        yield case("documents", "documents_not_supported", document())
    if "video" in card.input_modalities:
        yield case("videos", None, video())
        forbidden = AtLimit(card, "videos", "preview_not_allowed", video(), Policy(preview=frozenset()))
        yield forbidden
        seconds = (context - len("A fox in the snow") // LETTERS_A_TOKEN - 1) // card.video.tokens_per_second
        yield case("input_tokens", None, video(seconds=float(seconds)))
        yield case("input_tokens", "input_tokens_over_limit", video(seconds=float(seconds + 1)))
    else:
        yield case("videos", "videos_not_supported", video())
    yield case("input_tokens", None, request(prompt="a" * LETTERS_A_TOKEN * context))
    too_long = request(prompt="a" * (LETTERS_A_TOKEN * context + 1))
    yield case("input_tokens", "input_tokens_over_limit", too_long)
    room = context - images.tokens_each
    full = request(prompt="a" * LETTERS_A_TOKEN * room, images=(bytes_input(),))
    yield case("input_tokens", None, full)
    fuller = replace(full, prompt=full.prompt + "a")
    yield case("input_tokens", "input_tokens_over_limit", fuller)


CASES = [case for card in CARDS for of in (_words, _choices, _numbers, _files) for case in of(card)]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_card_is_held_to_at_each_of_its_limits(card: Card) -> None:
    own = [case for case in CASES if case.card.id == card.id]
    assert len(own) > 100
    for case in own:
        asked = replace(case.request, model=card.id)
        found = [item.code for item in validate(asked, case.card, case.policy)]
        assert found == ([] if case.code is None else [case.code]), (case.rule, case.code)


def test_every_rule_has_a_limit_that_passes_and_one_that_does_not() -> None:
    names = {rule.__name__.removeprefix("check_") for rule in RULES}
    assert {case.rule for case in CASES if case.code is None} == names
    assert {case.rule for case in CASES if case.code is not None} == names
