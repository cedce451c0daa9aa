"""The allowance for words and thoughts, learned from what was seen; and what would fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.domain.allowance import ENOUGH, REMEMBERED, Allowances
from app.domain.bound import would_fit
from app.domain.budget import Budget, Span, WindowState
from app.domain.estimate import WouldFit, compute_output_tokens_per_call, compute_settled_amounts, estimate
from app.domain.generation import Usage
from app.domain.request import GenerationRequest, Input

if TYPE_CHECKING:
    from app.domain.allowance import TenantAllowances
    from app.domain.budget import Unit
    from app.domain.card import Card

FOUND = load_catalogue().resolve("gemini-3.1-flash-image")
assert FOUND is not None
CARD: Card = FOUND
FLOOR = CARD.text_allowance.per_image["minimal"]
ASKED = GenerationRequest(model=CARD.id, prompt="A boat", image_size="2K", n=4)


STEPS = 8
"""Calls after which even the greatest allowance is reached."""


def learned(*tokens: int) -> TenantAllowances:
    allowances = Allowances().for_tenant("acme")
    for count in tokens:
        allowances.observe(CARD, "1K", "minimal", count)
    return allowances


def test_a_few_calls_say_nothing_and_then_the_allowance_grows_in_steps() -> None:
    assert learned(*[9000] * (ENOUGH - 1)).get(CARD, "1K", "minimal") == FLOOR
    assert learned(*[9000] * ENOUGH).get(CARD, "1K", "minimal") == 2 * FLOOR
    assert learned(*[9000] * (ENOUGH + STEPS)).get(CARD, "1K", "minimal") == 9000


def test_what_was_learned_counts_for_its_own_tenant_size_and_level() -> None:
    shared = Allowances()
    for _ in range(ENOUGH + STEPS):
        shared.for_tenant("acme").observe(CARD, "1K", "minimal", 9000)
    allowances = shared.for_tenant("acme")
    assert allowances.get(CARD, "1K", "minimal") == 9000
    assert allowances.get(CARD, "2K", "minimal") == FLOOR
    assert allowances.get(CARD, "1K", "high") == CARD.text_allowance.per_image["high"]
    assert shared.for_tenant("other").get(CARD, "1K", "minimal") == FLOOR


def test_an_answer_that_was_cut_off_counts_at_once() -> None:
    allowances = learned()
    for expected in (2 * FLOOR, 4 * FLOOR):
        allowances.observe(CARD, "1K", "minimal", 30_000, cut=True)
        assert allowances.get(CARD, "1K", "minimal") == expected


def test_old_calls_are_forgotten_and_so_are_the_kinds_that_were_not_seen_for_longest() -> None:
    assert learned(*[9000] * REMEMBERED, *[700] * REMEMBERED).get(CARD, "1K", "minimal") == 700
    few = Allowances(kinds_max=2)
    for tenant in ("first", "second", "first", "third"):
        few.observe(tenant, CARD, "1K", "minimal", 9000, cut=True)
    assert [few.get(each, CARD, "1K", "minimal") // FLOOR for each in ("first", "second", "third")] == [
        4,
        1,
        2,
    ]


@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), min_size=1, max_size=2 * ENOUGH))
def test_an_allowance_at_most_doubles_and_stays_between_the_floor_and_what_the_model_may_answer(
    seen: list[tuple[int, bool]],
) -> None:
    allowances = learned()
    before = FLOOR
    for tokens, cut in seen:
        allowances.observe(CARD, "1K", "minimal", tokens, cut=cut)
        after = allowances.get(CARD, "1K", "minimal")
        assert FLOOR <= after <= min(2 * before, CARD.tokens.output_max - 1120)
        before = after


@given(st.lists(st.integers(0, 30_000), min_size=ENOUGH, max_size=REMEMBERED - STEPS))
def test_at_most_one_in_a_hundred_is_above_the_allowance_once_it_has_grown(seen: list[int]) -> None:
    allowances = learned(*sorted(seen), *[max(seen)] * STEPS)
    assert sum(count > allowances.get(CARD, "1K", "minimal") for count in seen) * 100 <= len(seen)


def test_the_estimate_grows_with_what_was_learned_within_the_callers_bound() -> None:
    allowances = learned(*[5000] * (ENOUGH + STEPS))
    asked = replace(ASKED, image_size="1K", n=1)
    assert estimate(asked, CARD).text_output == FLOOR
    assert estimate(asked, CARD, allowances).text_output == 5000
    bounded = replace(asked, max_output_tokens=1500)
    assert compute_output_tokens_per_call(bounded, CARD, allowances) == 1500
    assert estimate(bounded, CARD, allowances).text_output == 1500 - 1120
    tight = replace(asked, max_output_tokens=1120)
    assert estimate(tight, CARD, allowances).text_output == 0


def test_a_strict_estimate_counts_every_byte_of_a_text() -> None:
    text = replace(ASKED, prompt="\u00e4" * 100, n=2)
    assert estimate(text, CARD, strict=True).text_input == 2 * 200
    assert estimate(text, CARD).text_input < 200


@given(st.data())
def test_a_strict_reservation_is_above_whatever_google_can_report(data: st.DataObject) -> None:
    """A token has at least a byte, a reference 1120 at most, and an answer stops at its bound."""
    text = data.draw(st.text(max_size=200))
    document = Input("document", "/documents/0", data=text.encode(), mime_type="text/plain")
    asked = replace(
        ASKED,
        n=data.draw(st.integers(1, 4)),
        image_size=data.draw(st.sampled_from(sorted(CARD.image_sizes))),
        prompt=text,
        documents=data.draw(st.sampled_from([(), (document,)])),
        images=data.draw(st.sampled_from([(), (Input("image", "/images/0"),) * 3])),
        max_output_tokens=data.draw(st.none() | st.integers(2520, CARD.tokens.output_max)),
    )
    allowances = learned(*data.draw(st.lists(st.integers(0, 30_000), min_size=ENOUGH, max_size=ENOUGH)))
    bound = compute_output_tokens_per_call(asked, CARD, allowances)
    picture = CARD.image_tokens(asked.image_size or "1K")
    words = bound - picture
    thinking = data.draw(st.integers(0, words))
    one = Usage(
        text_input=len(text.encode()) * (1 + len(asked.documents)),
        image_input=1120 * len(asked.images),
        image_output=picture,
        text_output=words - thinking,
        thinking=thinking,
    )
    used = compute_settled_amounts(CARD, sum([one] * asked.n, Usage()), asked.n)
    reserved = estimate(asked, CARD, allowances, strict=True).amounts
    assert all(most >= actual for most, actual in zip(reserved, used, strict=True))


def left(remaining: int, unit: Unit = "image_tokens") -> WindowState:
    return WindowState(Budget(unit, "day", remaining), 0, 0, Span(0, 86_400_000), 0)


@pytest.mark.parametrize(
    ("remaining", "size", "n"),
    [(0, None, 0), (747 * 4 - 1, None, 1), (747 * 4, "512", 1), (1120 * 4, "1K", 2), (1680 * 4, "2K", 4)],
)
def test_what_would_fit_is_the_largest_size_or_the_most_pictures(
    remaining: int, size: str | None, n: int
) -> None:
    assert would_fit(ASKED, CARD, (left(remaining),)) == WouldFit(size, n)


def test_what_would_fit_fits_every_enforced_window() -> None:
    shadow = WindowState(Budget("usd", "day", 0, mode="shadow"), 0, 0, Span(0, 1), 0)
    assert would_fit(ASKED, CARD, (left(10**6), left(3, "images"), shadow)) == WouldFit(None, 3)
