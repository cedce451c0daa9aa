"""The bound on output in a request: in the gateway's own words, and in a body that passes through."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from app.domain.passthrough import Passthrough
from app.domain.request import GenerationRequest
from app.generation.bounding import bound_request
from tests.generation.paths import CATALOGUE

CARD = next(card for card in CATALOGUE if card.id == "gemini-3.1-flash-image")
ASKED = GenerationRequest(model=CARD.id, prompt="A boat")


def test_a_bound_that_is_there_already_changes_nothing() -> None:
    own = replace(ASKED, max_output_tokens=1720)
    assert bound_request(own, CARD, 1720) is own


def test_only_a_bound_below_the_cards_is_the_gateways_own() -> None:
    assert bound_request(ASKED, CARD, 1720).bounded
    widest = bound_request(ASKED, CARD, CARD.tokens.output_max)
    assert (widest.max_output_tokens, widest.bounded) == (CARD.tokens.output_max, False)


@pytest.mark.parametrize(
    ("body", "config"),
    [
        ({}, "generationConfig"),
        ({"generationConfig": {"seed": 1}}, "generationConfig"),
        ({"generationConfig": {"maxOutputTokens": 9000}}, "generationConfig"),
        ({"generation_config": {"max_output_tokens": 9000}}, "generation_config"),
    ],
)
def test_a_body_that_passes_through_carries_the_bound_in_place_of_a_wider_one(
    body: dict[str, Any], config: str
) -> None:
    passthrough = Passthrough(json.dumps(body).encode(), {}, "")
    bounded = bound_request(replace(ASKED, verbatim=passthrough), CARD, 1720)
    assert bounded.verbatim is not None
    sent = json.loads(bounded.verbatim.skeleton)
    assert list(sent) == [config]
    assert sent[config]["maxOutputTokens"] == 1720
    assert "max_output_tokens" not in sent[config]
    assert bounded.max_output_tokens == 1720
