"""What the calls of one request come to together."""

from __future__ import annotations

from app.cards import load_catalogue
from app.domain.estimate import estimate
from app.domain.generation import ModelAnswer, Usage
from app.domain.outcome import compute_outcome
from app.domain.request import GenerationRequest

_FOUND = load_catalogue().resolve("gemini-3.1-flash-image")
assert _FOUND is not None
CARD = _FOUND
PER_CALL = estimate(GenerationRequest(CARD.id, "a fox"), CARD)


def served(tier: str) -> ModelAnswer:
    """An answer of a million picture tokens, so that prices are read off the card."""
    return ModelAnswer((), "", "STOP", Usage(image_output=1_000_000, tier=tier), "m")


def test_calls_that_were_served_in_different_tiers_are_each_paid_at_their_own() -> None:
    outcome = compute_outcome([served("priority"), served("standard"), served("flex")], CARD, PER_CALL)
    assert outcome.amounts.usd == (108 + 60 + 30) * 10**9
    assert (outcome.amounts.image_tokens, outcome.usage.tier) == (3_000_000, "mixed")


def test_calls_of_one_tier_keep_it_and_one_that_does_not_say_changes_nothing() -> None:
    outcome = compute_outcome([served("flex"), served("flex")], CARD, PER_CALL)
    assert (outcome.amounts.usd, outcome.usage.tier) == (60 * 10**9, "flex")
    silent = compute_outcome([served("flex"), served("")], CARD, PER_CALL)
    assert (silent.amounts.usd, silent.usage.tier) == (90 * 10**9, "flex")
