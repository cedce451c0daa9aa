"""What documents tell of the rules is what the rules do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.domain.acceptance import list_acceptances
from app.domain.validation import RULES
from tests.domain.validation_cases import BAD, CARD, CATALOGUE

if TYPE_CHECKING:
    from app.domain.acceptance import Acceptance
    from app.domain.card import Card


@pytest.mark.parametrize("card", list(CATALOGUE), ids=lambda card: card.id)
def test_every_rule_is_told_once_with_what_it_accepts(card: Card) -> None:
    told = list_acceptances(card)
    assert sorted(each.rule for each in told) == sorted(
        rule.__name__.removeprefix("check_") for rule in RULES
    )
    assert all(each.accepted for each in told)


@pytest.mark.parametrize("told", list_acceptances(CARD), ids=lambda told: told.rule)
def test_the_codes_of_a_rule_are_those_of_its_cases(told: Acceptance) -> None:
    assert len(set(told.codes)) == len(told.codes)
    assert set(told.codes) == {case.code for case in BAD if case.rule == told.rule}
