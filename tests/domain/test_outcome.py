"""What the calls of one request come to together."""

from __future__ import annotations

from app.cards import load_catalogue
from app.domain.bound import build_bounds
from app.domain.budget import Amounts
from app.domain.errors import UpstreamError
from app.domain.estimate import estimate
from app.domain.generation import ModelAnswer, Usage
from app.domain.outcome import compute_outcome
from app.domain.report import Spent, UsagePart
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


def test_reports_know_what_each_tier_billed_and_what_was_estimated() -> None:
    lost = UpstreamError("Lost.", billed="maybe")
    outcome = compute_outcome([served("flex"), served("standard"), served(""), lost], CARD, PER_CALL)
    flex = Spent(0, 1_000_000, 1_000_000, 0, 30 * 10**9)
    guessed = Spent(
        0,
        *PER_CALL.amounts[:4],
        text_input=PER_CALL.text_input,
        text_output=PER_CALL.text_output,
    )
    assert outcome.parts == (UsagePart("flex", flex), UsagePart("estimated", guessed))
    assert outcome.spent is not None
    assert outcome.spent.usd == outcome.amounts.usd == (30 + 60 + 60) * 10**9 + PER_CALL.usd
    assert outcome.spent == Spent(1, *outcome.amounts[:4], guessed.text_input, 0, guessed.text_output)


def test_words_that_an_answer_did_not_report_are_set_aside_up_to_its_bound() -> None:
    bound = build_bounds(GenerationRequest(CARD.id, "a fox"), CARD, None, PER_CALL.amounts)[1]
    assert bound.tokens == 3440
    usual = Usage(text_input=2, image_output=1120, text_output=600, estimated=True)
    silent = ModelAnswer((), "", "STOP", usual, "m", reported=False)
    outcome = compute_outcome([silent], CARD, PER_CALL, worst=bound.worst)
    assert outcome.amounts[:2] == (1120, 1722)
    words = 3440 - 1720
    read = 5 - 2  # every byte may be a token
    expected = Amounts(total_tokens=words + read, usd=words * 3_000 + read * 500, all_output_tokens=words)
    assert outcome.unresolved == expected
    twice = Amounts(*(2 * amount for amount in bound.worst))
    assert compute_outcome([silent, served("")], CARD, PER_CALL, worst=twice).unresolved == expected
