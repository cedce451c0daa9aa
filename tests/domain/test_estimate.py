"""Estimates: the card's table, and prices to the last billionth."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.bound import build_bounds
from app.domain.budget import AMOUNT_MAX, Amounts
from app.domain.estimate import compute_settled_amounts, estimate, estimate_text_tokens, price_nano_usd
from app.domain.fingerprint import compute_digest
from app.domain.generation import Usage
from app.domain.request import GenerationRequest, Input

if TYPE_CHECKING:
    from app.domain.card import Card

_FOUND = load_catalogue().resolve("gemini-3.1-flash-image")
assert _FOUND is not None
CARD = _FOUND
PLAIN = GenerationRequest(CARD.id, "a fox")
IMAGE = Input("image", "/images/0", b"x", mime_type="image/png", digest=compute_digest(b"x"))
ALLOWANCE = CARD.text_allowance.per_image

tokens = st.integers(0, 200_000)
usages = st.builds(
    Usage,
    text_input=tokens,
    image_input=tokens,
    image_output=tokens,
    text_output=tokens,
    thinking=tokens,
    tool_use=tokens,
)


def repriced(**prices: float) -> Card:
    """The card with other prices, in dollars per million tokens."""
    return CARD.model_copy(
        update={"prices_usd_per_million": CARD.prices_usd_per_million.model_copy(update=prices)}
    )


@pytest.mark.parametrize(("image_size", "each"), [("512", 747), ("1K", 1120), ("2K", 1680), ("4K", 2520)])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_image_tokens_are_the_cards_table_times_n(image_size: str, each: int, n: int) -> None:
    found = estimate(replace(PLAIN, image_size=image_size, n=n), CARD)
    assert found.image_output == n * each
    assert found.images == n
    assert found.amounts.image_tokens == n * each
    assert found.amounts.images == n


@pytest.mark.parametrize("aspect_ratio", [None, *CARD.aspect_ratios])
def test_the_aspect_ratio_costs_nothing(aspect_ratio: str | None) -> None:
    assert estimate(replace(PLAIN, aspect_ratio=aspect_ratio), CARD) == estimate(PLAIN, CARD)


def test_the_default_size_is_estimated_where_none_is_asked() -> None:
    assert estimate(PLAIN, CARD).image_output == 1120


@pytest.mark.parametrize(("images", "n"), [(0, 1), (1, 1), (14, 1), (3, 4)])
def test_reference_images_are_read_anew_for_every_picture(images: int, n: int) -> None:
    found = estimate(replace(PLAIN, images=(IMAGE,) * images, n=n), CARD)
    assert found.image_input == images * n * 1120


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("\N{GRINNING FACE}", 2),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 3, 2),
    ],
)
def test_text_is_a_token_for_every_three_bytes_begun(text: str, count: int) -> None:
    assert estimate_text_tokens(text) == count
    found = estimate(replace(PLAIN, prompt=text, system_instruction=text, n=2), CARD)
    assert found.text_input == 4 * count


@pytest.mark.parametrize(("level", "each"), [(None, ALLOWANCE["minimal"]), *ALLOWANCE.items()])
def test_words_and_thoughts_are_allowed_for_by_level(level: str | None, each: int) -> None:
    assert estimate(replace(PLAIN, thinking_level=level, n=3), CARD).text_output == 3 * each


@pytest.mark.parametrize(
    ("tier", "nano_usd", "covered"),
    [
        (None, 69_001_000, 69_001_000),
        ("flex", 34_500_500, 69_001_000),
        ("priority", 124_201_800, 124_201_800),
    ],
)
def test_a_reservation_covers_the_dearest_tier_that_may_be_given(
    tier: str | None, nano_usd: int, covered: int
) -> None:
    request = replace(PLAIN, service_tier=tier)
    expected = estimate(request, CARD)
    assert expected.usd == nano_usd, "what is expected has the price of the requested tier"
    tight, *_ = build_bounds(request, CARD, None, expected.amounts)
    assert tight.worst.usd >= covered


@pytest.mark.parametrize(("share", "usd"), [(0.0, 0.0), (0.7, 42.0), (1.0, 60.0), (1.5, 90.0)])
def test_provisioned_throughput_has_the_operators_own_price(share: float, usd: float) -> None:
    card = CARD.with_provisioned_price(share)
    assert price_nano_usd(card, Usage(image_output=1_000_000, tier="provisioned")) == usd * 1e9
    assert price_nano_usd(card, Usage(image_output=1_000_000, tier="standard")) == 60 * 10**9
    assert card.list_service_tiers() == ("standard", "flex", "priority"), "nobody can request it"
    assert card.get_dearest_prices(None).image_output == max(60.0, usd)


@given(
    st.text(max_size=500),
    st.integers(0, 14),
    st.integers(1, 8),
    st.sampled_from(sorted(CARD.image_sizes)),
    st.sampled_from(CARD.parameters.thinking_levels),
)
def test_an_estimates_parts_add_up_and_so_does_its_price(
    prompt: str, images: int, n: int, image_size: str, level: str
) -> None:
    request = replace(
        PLAIN, prompt=prompt, images=(IMAGE,) * images, n=n, image_size=image_size, thinking_level=level
    )
    found = estimate(request, CARD)
    assert found.input_tokens == found.text_input + found.image_input + found.document_input
    assert found.total_tokens == found.input_tokens + found.image_output + found.text_output
    assert found.amounts == Amounts(
        found.image_output, found.total_tokens, n, found.usd, found.image_output + found.text_output
    )
    # 0.50, 60 and 3 dollars a million are 500, 60 000 and 3000 billionths a token.
    assert found.usd == found.input_tokens * 500 + found.image_output * 60_000 + found.text_output * 3000


def test_an_estimate_covers_the_usage_that_it_foresaw() -> None:
    found = estimate(replace(PLAIN, images=(IMAGE,) * 2, n=2, image_size="4K"), CARD)
    usage = Usage(found.text_input, found.image_input, found.image_output, found.text_output)
    assert compute_settled_amounts(CARD, usage, 2) == found.amounts


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        (Usage(), 0),
        (Usage(text_input=1), 500),
        (Usage(cached_input=1, text_input=1), 50),
        (Usage(image_input=1120), 560_000),
        (Usage(tool_use=3), 1500),
        (Usage(image_output=747), 44_820_000),  # 0.045 dollars, as the price list says
        (Usage(image_output=1120), 67_200_000),  # 0.067
        (Usage(image_output=1680), 100_800_000),  # 0.101
        (Usage(image_output=2520), 151_200_000),  # 0.151
        (Usage(text_output=1, thinking=1), 6000),
        (Usage(text_input=10, cached_input=99), 99 * 50),  # more cached than read is not paid back
    ],
)
def test_the_price_list_is_kept(usage: Usage, nano_usd: int) -> None:
    assert price_nano_usd(CARD, usage) == nano_usd


# What a price list can say: dollars per million with up to six decimals.
listed = st.integers(0, 10**9).map(lambda millionths: millionths / 10**6)


@given(usages, st.integers(0, 100_000), listed, listed, listed, listed)
def test_a_price_is_exact_and_rounded_up_once(
    usage: Usage, cached: int, fresh: float, cached_price: float, words: float, pictures: float
) -> None:
    cached = min(cached, usage.input_tokens)
    usage = replace(usage, cached_input=cached)
    card = repriced(input=fresh, cached_input=cached_price, text_output=words, image_output=pictures)
    with localcontext() as context:
        context.prec = 60
        dollars = (
            (usage.input_tokens - cached) * Decimal(str(fresh))
            + cached * Decimal(str(cached_price))
            + usage.image_output * Decimal(str(pictures))
            + (usage.text_output + usage.thinking) * Decimal(str(words))
        ) / 1_000_000
        exact = dollars * 10**9
        assert price_nano_usd(card, usage) == int(exact.to_integral_value(ROUND_CEILING))


def test_a_price_that_floats_would_get_wrong_is_right() -> None:
    usage = Usage(text_input=3)
    card = repriced(input=0.1)
    assert 0.1 * 3 != 0.3
    assert price_nano_usd(card, usage) == 300
    # A hundredth of a billionth is rounded up, and only once for all parts.
    card = repriced(input=0.00001, text_output=0.00001)
    assert price_nano_usd(card, Usage(text_input=1, text_output=1)) == 1
    assert price_nano_usd(card, Usage(text_input=100)) == 1
    assert price_nano_usd(card, Usage(text_input=101)) == 2


def test_a_large_price_is_exact_beyond_what_a_double_holds() -> None:
    card = repriced(image_output=999.999999)
    usage = Usage(image_output=9_007_199_254_740_993)
    assert price_nano_usd(card, usage) == ceil(usage.image_output * Fraction("999.999999") * 1000)


@given(usages, st.integers(1, 8))
def test_what_is_booked_is_what_google_reported(usage: Usage, images: int) -> None:
    found = compute_settled_amounts(CARD, usage, images)
    assert found.image_tokens == usage.image_output
    assert found.all_output_tokens == usage.image_output + usage.text_output + usage.thinking
    assert found.total_tokens == usage.input_tokens + usage.output_tokens
    assert found.images == images
    assert all(0 <= amount <= AMOUNT_MAX for amount in found)


@given(usages, usages)
def test_usage_of_two_calls_is_the_sum_of_both(one: Usage, other: Usage) -> None:
    together = one + other
    assert together.input_tokens == one.input_tokens + other.input_tokens
    assert together.output_tokens == one.output_tokens + other.output_tokens
    assert price_nano_usd(CARD, together) == price_nano_usd(CARD, one) + price_nano_usd(CARD, other)
