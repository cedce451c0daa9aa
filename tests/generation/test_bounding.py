"""The bound on output in a request: in the gateway's own words, and in a body that passes through."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import pytest

from app.domain.bound import CALLS_ENOUGH
from app.domain.errors import AnswerCut
from app.domain.passthrough import Passthrough
from app.domain.policy import HoldConfig
from app.domain.request import GenerationRequest
from app.generation.bounding import bound_request
from tests.generation.paths import CALLER, CATALOGUE, LOST, Path
from tests.generation.ports import USAGE, answer

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
        ({"generationConfig": None}, "generationConfig"),
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


CUT = AnswerCut("Cut off.", billed="yes", usage=USAGE)


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [("adaptive", 1347, None), ("required", 1347, 1347), ("off", None, None)],
)
async def test_a_bound_is_sent_as_the_deployment_says_and_as_answers_bear_it(
    rule: Literal["adaptive", "required", "off"], before: int | None, after: int | None
) -> None:
    path = Path(hold=HoldConfig(output_bound=rule))
    for _ in range(CALLS_ENOUGH):
        path.model.endings.append(CUT)
        with suppress(AnswerCut):
            await path.ask("bypass")
    assert path.model.requests[0].max_output_tokens == before
    await path.ask("bypass")
    bound = path.model.requests[-1].max_output_tokens
    assert (bound is None) == (after is None)
    assert after is None or (bound or 0) >= after


async def test_a_tenant_whose_limits_must_hold_is_bounded_whatever_is_cut_off() -> None:
    path = Path()
    refusing = replace(CALLER, tenant=replace(CALLER.tenant, tail="refuse"))
    for _ in range(CALLS_ENOUGH):
        path.model.endings.append(CUT)
        with suppress(AnswerCut):
            await path.ask("bypass")
    await path.ask("bypass", caller=refusing)
    assert path.model.requests[-1].max_output_tokens
    await path.ask("bypass")
    assert path.model.requests[-1].max_output_tokens is None


async def test_what_a_bound_cuts_off_is_paid_and_not_told_to_followers() -> None:
    path = Path()
    path.model.endings.append(CUT)
    with pytest.raises(AnswerCut):
        await path.ask()
    (settlement,) = path.ledger.ended
    assert (settlement.outcome, settlement.failure, settlement.publish) == ("settle", None, None)
    assert settlement.amounts.total_tokens == USAGE.total_tokens


async def test_calls_of_unknown_outcome_among_others_are_booked_as_expected_and_set_aside() -> None:
    path = Path()
    path.model.endings.extend([answer(), LOST, LOST])
    await path.ask("bypass", n=3)
    (settlement,) = path.ledger.ended
    assert settlement.outcome == "settle"
    assert settlement.amounts.image_tokens == 747 + 2 * 747
    assert settlement.unresolved.image_tokens == 2 * (1120 - 747)
