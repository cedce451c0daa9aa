"""Every priced dimension of every card against figures copied by hand from the price lists.

Dollars per million tokens are those of Google's price pages (October and November 2026), as LiteLLM 1.110.2
and genai-prices 0.2.3 repeat them; pictures are the dollars that the pages print for one.
"""

from __future__ import annotations

import pytest

from app.cards import load_catalogue
from app.domain.estimate import price_answer, price_nano_usd
from app.domain.generation import NO_USAGE, Usage

FLASH, PRO = "gemini-3.1-flash-image", "gemini-3-pro-image"
LITE, NEXT = "gemini-3.1-flash-lite-image", "gemini-nano-banana-2.1"
MILLION = 1_000_000
NANO = 1_000_000_000

# model, tier: dollars for a million tokens of input, cached input, words, pictures
PER_MILLION = {
    (FLASH, "standard"): (0.50, 0.05, 3.00, 60.0),
    (FLASH, "flex"): (0.25, 0.025, 1.50, 30.0),
    (FLASH, "priority"): (0.90, 0.09, 5.40, 108.0),
    (PRO, "standard"): (2.00, 0.20, 12.00, 120.0),
    (PRO, "flex"): (1.00, 0.10, 6.00, 60.0),
    (PRO, "priority"): (3.60, 0.36, 21.60, 216.0),
    (LITE, "standard"): (0.25, 0.025, 1.50, 30.0),
    (LITE, "flex"): (0.125, 0.0125, 0.75, 15.0),
    (LITE, "priority"): (0.45, 0.045, 2.70, 54.0),
    (NEXT, "standard"): (1.50, 0.15, 7.50, 30.0),
    (NEXT, "priority"): (2.70, 0.27, 13.50, 54.0),
}

# The same for the batch API, whose calls the gateway does not make.
BATCH = {
    FLASH: (0.25, 0.025, 1.50, 30.0),
    PRO: (1.00, 0.10, 6.00, 60.0),
    LITE: (0.125, 0.0125, 0.75, 15.0),
    NEXT: (0.75, 0.075, 3.75, 15.0),
}

# model, size: tokens and dollars of one picture
PICTURES = {
    (FLASH, "512"): (747, 0.04482),
    (FLASH, "1K"): (1120, 0.0672),
    (FLASH, "2K"): (1680, 0.1008),
    (FLASH, "4K"): (2520, 0.1512),
    (PRO, "1K"): (1120, 0.1344),
    (PRO, "2K"): (1120, 0.1344),
    (PRO, "4K"): (2000, 0.24),
    (LITE, "1K"): (1120, 0.0336),
    (NEXT, "1K"): (1120, 0.0336),
    (NEXT, "2K"): (1680, 0.0504),
    (NEXT, "4K"): (3780, 0.1134),
}

# kind of input: tokens at the usual resolution, low, medium, high, ultra high; the same for all models
INPUTS = {
    "image": (1120, 280, 560, 1120, 2240),
    "page": (560, 280, 560, 1120, 2240),
    "second": (300, 300, 300, 1200, 2400),
}
RESOLUTIONS = (None, "low", "medium", "high", "ultra_high")

CARDS = {card.id: card for card in load_catalogue()}


def test_the_tables_are_about_every_card_tier_and_size() -> None:
    assert {model for model, _ in PER_MILLION} == set(CARDS)
    assert set(PER_MILLION) == {(name, tier) for name in CARDS for tier in CARDS[name].list_service_tiers()}
    assert set(PICTURES) == {(name, size) for name in CARDS for size in CARDS[name].image_sizes}


@pytest.mark.parametrize(("model", "tier"), PER_MILLION)
def test_each_kind_of_token_costs_what_the_lists_say(model: str, tier: str) -> None:
    fresh, cached, words, pictures = PER_MILLION[model, tier]
    usages = (
        (Usage(text_input=MILLION, tier=tier), fresh),
        (Usage(image_input=MILLION, tier=tier), fresh),
        (Usage(tool_use=MILLION, tier=tier), fresh),
        (Usage(text_input=MILLION, cached_input=MILLION, tier=tier), cached),
        (Usage(text_output=MILLION, tier=tier), words),
        (Usage(thinking=MILLION, tier=tier), words),
        (Usage(image_output=MILLION, tier=tier), pictures),
    )
    for usage, usd in usages:
        assert price_nano_usd(CARDS[model], usage) == round(usd * NANO), usage


@pytest.mark.parametrize("model", CARDS)
def test_batch_prices_are_what_the_lists_say(model: str) -> None:
    batch = CARDS[model].batch_prices_usd_per_million
    assert batch is not None
    assert (batch.input, batch.cached_input, batch.text_output, batch.image_output) == BATCH[model]
    assert "batch" not in CARDS[model].list_service_tiers(), "no request can ask for it"


@pytest.mark.parametrize(("model", "size"), PICTURES)
def test_a_picture_costs_what_the_lists_say(model: str, size: str) -> None:
    tokens, usd = PICTURES[model, size]
    assert CARDS[model].image_tokens(size) == tokens
    assert price_nano_usd(CARDS[model], Usage(image_output=tokens)) == round(usd * NANO)


def test_a_search_costs_fourteen_dollars_a_thousand_where_it_is_offered() -> None:
    offered = {name for name in CARDS if CARDS[name].grounding}
    assert offered == {FLASH, PRO, NEXT}
    for name in offered:
        assert price_nano_usd(CARDS[name], Usage(search_queries=1000)) == 14 * NANO


def test_one_call_with_everything_costs_the_sum_of_its_parts() -> None:
    usage = Usage(
        text_input=1000, image_input=1120, cached_input=600, tool_use=400, image_output=3780, text_output=450,
        thinking=1200, search_queries=3, tier="priority",
    )  # fmt: skip
    # (2520 - 600) * 2.7 + 600 * 0.27 + 3780 * 54 + 1650 * 13.5 millionths, and 3 * 0.014
    assert price_nano_usd(CARDS[NEXT], usage) == 273_741_000


@pytest.mark.parametrize("model", CARDS)
def test_inputs_are_counted_at_the_higher_number_of_the_sources(model: str) -> None:
    card = CARDS[model]
    counts = {
        "image": card.images.count_tokens,
        "page": card.documents.count_page_tokens,
        "second": card.video.count_second_tokens,
    }
    for kind, tokens in INPUTS.items():
        assert tuple(counts[kind](resolution) for resolution in RESOLUTIONS) == tokens, kind
        assert counts[kind]("a new one") == max(tokens), kind
    # What 258 tokens a page would let pass is not refused.
    assert card.documents.count_least_page_tokens(None) == 258


def test_an_answer_without_a_tier_has_the_higher_price_of_the_two_that_are_possible() -> None:
    picture = Usage(image_output=MILLION)
    for requested, usd in ((None, 60.0), ("standard", 60.0), ("flex", 60.0), ("priority", 108.0)):
        assert price_answer(picture, [CARDS[FLASH]], requested).usd == round(usd * NANO)
    served = Usage(image_output=MILLION, tier="standard")
    assert price_answer(served, [CARDS[FLASH]], "priority").usd == 60 * NANO


def test_an_answer_of_an_unknown_model_has_the_highest_price_of_all() -> None:
    assert price_answer(Usage(image_output=MILLION), CARDS.values(), None).usd == 120 * NANO
    assert price_answer(Usage(text_output=MILLION), CARDS.values(), None).usd == 12 * NANO


def test_prices_of_several_answers_add_up_and_are_kept_where_all_are_known() -> None:
    one = price_answer(Usage(image_output=MILLION, tier="flex"), [CARDS[FLASH]], None)
    other = price_answer(Usage(image_output=MILLION, tier="standard"), [CARDS[PRO]], None)
    assert (NO_USAGE + one + other).usd == 150 * NANO
    assert price_nano_usd(CARDS[LITE], one + other) == 150 * NANO
    assert (one + Usage(text_output=1)).usd is None


@pytest.mark.parametrize(
    ("version", "model"),
    [
        (FLASH, FLASH),
        (f"{FLASH}-001", FLASH),
        (f"publishers/google/models/{NEXT}-20261006", NEXT),
        (f"{LITE}-2026-06-30", LITE),
        ("gemini-3.1-flash-image-preview", FLASH),
        (f"{FLASH}-02", None),
        ("gemini-4", None),
        ("-001", None),
    ],
)
def test_a_version_leads_to_the_card_of_its_model(version: str, model: str | None) -> None:
    answering = load_catalogue().find_answering(version)
    assert (answering.id if answering is not None else None) == model
