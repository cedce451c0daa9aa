"""The bound on an answer, what it can cost at most, and when none is sent."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.bound import (
    CALLS_ENOUGH,
    CALLS_LOOKED_AT,
    OFF_S,
    Bound,
    BoundSwitch,
    build_bounds,
    compute_most_image_tokens,
    compute_needed_amounts,
    compute_unresolved,
    count_most_images,
)
from app.domain.budget import UNITS, Amounts
from app.domain.estimate import compute_settled_amounts, estimate
from app.domain.generation import Usage
from app.domain.request import GenerationRequest, Input

if TYPE_CHECKING:
    from app.domain.card import Card

CARDS = tuple(load_catalogue())
FLASH = next(card for card in CARDS if card.id == "gemini-3.1-flash-image")
SIZES = {name: size.tokens for name, size in FLASH.image_sizes.items()}
ASKED = GenerationRequest(model=FLASH.id, prompt="A boat", image_size="1K")


def bounds_of(asked: GenerationRequest, card: Card) -> tuple[Bound, ...]:
    """The bounds of a request without anything learned."""
    return build_bounds(asked, card, None, estimate(asked, card).amounts)


@given(st.frozensets(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 40))
def test_the_most_image_tokens_are_the_greatest_sum_within_the_bound(
    sizes: frozenset[int], bound: int
) -> None:
    sums = {0}
    for _ in range(bound):
        sums |= {total + size for total, size in product(sums, sizes) if total + size <= bound}
    assert compute_most_image_tokens(sizes, bound) == max(sums)


def test_the_worst_of_a_1k_picture_is_as_the_decision_says() -> None:
    tight, *_, widest = bounds_of(ASKED, FLASH)
    assert tight.tokens == 1120 + 600
    assert (tight.worst.image_tokens, tight.worst.images, tight.worst.all_output_tokens) == (1680, 2, 1720)
    assert tight.worst.image_tokens - estimate(ASKED, FLASH).amounts.image_tokens == 560
    assert widest.tokens == FLASH.tokens.output_max
    assert widest.worst.images == FLASH.tokens.output_max // 747 == count_most_images(FLASH, widest.tokens)


def test_bounds_double_from_the_tight_one_to_the_callers_own_or_the_cards() -> None:
    assert [bound.tokens for bound in bounds_of(ASKED, FLASH)] == [1720, 3440, 6880, 13760, 27520, 32768]
    own = replace(ASKED, max_output_tokens=4000)
    assert [bound.tokens for bound in bounds_of(own, FLASH)] == [1720, 3440, 4000]
    assert [bound.tokens for bound in bounds_of(replace(own, max_output_tokens=1200), FLASH)] == [1200]
    thoughtful = replace(ASKED, thinking_budget=30_000)
    assert [bound.tokens for bound in bounds_of(thoughtful, FLASH)] == [31_120, 32_768]


@given(st.data())
def test_nothing_that_is_answered_within_a_bound_costs_more_than_its_worst(data: st.DataObject) -> None:
    card = data.draw(st.sampled_from(CARDS))
    text = data.draw(st.text(max_size=100))
    request = GenerationRequest(
        model=card.id,
        prompt=text,
        image_size=data.draw(st.sampled_from(sorted(card.image_sizes))),
        n=data.draw(st.integers(1, 8)),
        images=(Input("image", "/images/0"),) * data.draw(st.integers(0, 3)),
        thinking_budget=data.draw(st.none() | st.integers(0, card.tokens.output_max)),
        service_tier=data.draw(st.sampled_from([None, "standard", "flex", "priority"])),
    )
    strict = data.draw(st.booleans())
    tables = [size.tokens for size in card.image_sizes.values()]
    for bound in bounds_of(request, card):
        usages, images = [], 0
        for _ in range(request.n):
            drawn, pictures = 0, data.draw(st.lists(st.sampled_from(tables), max_size=20))
            for size in pictures:
                if drawn + size <= bound.tokens:
                    drawn, images = drawn + size, images + 1
            words = data.draw(st.integers(0, bound.tokens - drawn))
            tier = data.draw(st.sampled_from(sorted({request.service_tier or "", "standard"})))
            usages.append(
                Usage(
                    text_input=len(text.encode()),
                    image_input=card.images.tokens_each * len(request.images),
                    image_output=drawn,
                    text_output=words // 2,
                    thinking=words - words // 2,
                    tier=tier,
                )
            )
        for tier in {usage.tier for usage in usages}:
            alone = sum((usage for usage in usages if usage.tier == tier), Usage())
            made = compute_settled_amounts(card, alone, images)
            assert all(most >= used for most, used in zip(bound.worst, made, strict=True))
        expected = estimate(request, card, strict=strict).amounts
        assert all(most >= usual for most, usual in zip(bound.worst, expected, strict=True))


def test_words_that_cost_more_than_pictures_are_the_worst() -> None:
    dear = FLASH.prices_usd_per_million.model_copy(update={"text_output": 100.0})
    card = FLASH.model_copy(update={"prices_usd_per_million": dear})
    read = estimate(ASKED, card, strict=True).input_tokens
    assert bounds_of(ASKED, card)[0].worst.usd == read * 500 + 1720 * 100_000


def test_a_tenant_whose_tail_is_refused_needs_the_worst() -> None:
    serving = compute_needed_amounts(ASKED, FLASH, None, strict=False, tail="serve_one")
    refusing = compute_needed_amounts(ASKED, FLASH, None, strict=True, tail="refuse")
    assert (serving.image_tokens, refusing.image_tokens) == (1120, 1680)


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.tuples(*[st.integers(0, 10**12)] * len(UNITS)),
    st.tuples(*[st.integers(0, 10**9)] * len(UNITS)),
)
def test_what_is_set_aside_and_what_is_booked_cover_the_unknown_calls(
    calls: tuple[int, int], worst: tuple[int, ...], booked: tuple[int, ...]
) -> None:
    n, unknown = calls
    aside = compute_unresolved(Amounts(*worst), Amounts(*booked), unknown, n)
    assert all(
        (more + known) * n >= most * unknown for more, known, most in zip(aside, booked, worst, strict=True)
    )


@pytest.mark.parametrize(
    ("cut", "whole", "on"),
    [(CALLS_ENOUGH - 1, 0, True), (1, CALLS_ENOUGH - 1, True), (2, 18, False), (5, 95, True)],
)
def test_the_bound_is_switched_off_where_too_many_answers_are_cut_off(
    cut: int, whole: int, *, on: bool
) -> None:
    switch = BoundSwitch()
    told = [switch.observe("a", FLASH, "high", 0.0, cut=each) for each in [False] * whole + [True] * cut]
    assert switch.is_on(FLASH, "high", 1.0) is on
    assert any(told) is not on
    assert switch.is_on(FLASH, "minimal", 1.0)
    assert switch.is_on(FLASH, "high", OFF_S + 1.0)


def test_the_last_hundred_answers_count() -> None:
    switch = BoundSwitch()
    assert not any(switch.observe("a", FLASH, "high", 0.0, cut=False) for _ in range(3 * CALLS_LOOKED_AT))
    told = [switch.observe("a", FLASH, "high", 0.0, cut=True) for _ in range(6)]
    assert told == [False] * 5 + [True]


def test_no_tenant_among_several_switches_the_bound_off_by_its_own_answers() -> None:
    switch = BoundSwitch()
    switch.observe("quiet", FLASH, "high", 0.0, cut=False)
    assert not any(switch.observe("greedy", FLASH, "high", 0.0, cut=True) for _ in range(CALLS_LOOKED_AT))
    assert switch.is_on(FLASH, "high", 1.0)
    assert switch.observe("quiet", FLASH, "high", 0.0, cut=True)
    assert not switch.is_on(FLASH, "high", 1.0)


def test_a_deployment_can_forbid_calls_without_a_bound_or_send_none_at_all() -> None:
    required, off = BoundSwitch("required"), BoundSwitch("off")
    assert not any(required.observe("a", FLASH, "high", 0.0, cut=True) for _ in range(CALLS_LOOKED_AT))
    assert required.is_on(FLASH, "high", 1.0)
    assert not off.is_on(FLASH, "high", 1.0)
