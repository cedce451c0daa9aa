"""The end of a model at a back end: what is said of it, when, and to whom."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from app.cards import Catalogue, load_catalogue
from app.domain.allowance import Allowances
from app.domain.card import Card, Retirement
from app.domain.policy import Policy, TimeConfig
from app.generation.job import build_job
from app.generation.order import Order
from tests.generation.paths import CALLER, REQUEST

END = date(2027, 5, 28)
CARD = next(card for card in load_catalogue() if card.id == "gemini-3.1-flash-image")


def retiring(**retires: Retirement) -> Card:
    return CARD.model_copy(update={"lifecycle": CARD.lifecycle.model_copy(update={"retires": retires})})


@pytest.mark.parametrize(
    ("status", "days_left", "shown", "near"),
    [
        ("announced", 91, "announced", False),
        ("announced", 90, "announced", True),
        ("announced", 1, "announced", True),
        ("announced", 0, "past", True),
        ("announced", -400, "past", True),
        ("lifted", 5, "lifted", False),
        ("lifted", -5, "lifted", False),
    ],
)
def test_an_announced_end_is_near_from_90_days_before_it_on(
    status: Any, days_left: int, shown: str, near: bool
) -> None:
    today = END - timedelta(days=days_left)
    end = Retirement(day=END, status=status, source="lifecycle")
    assert (end.get_status(today), end.is_near(today)) == (shown, near)
    assert bool(retiring(vertex=end).list_near_retirements(("gemini", "vertex"), today)) == near
    assert retiring(vertex=end).list_near_retirements(("gemini",), today) == ()


def test_a_sentence_names_day_back_end_and_successor() -> None:
    end = Retirement(day=END, source="lifecycle")
    before = CARD.describe_retirement("vertex", end, date(2027, 5, 1))
    assert before == (
        "Gemini 3.1 Flash Image retires on 2027-05-28 at the back end vertex; use gemini-nano-banana-2.1."
    )
    assert "was retired on 2027-05-28" in CARD.describe_retirement("vertex", end, END)


def test_a_source_that_the_card_does_not_list_is_refused() -> None:
    facts = CARD.model_dump(mode="json")
    facts["lifecycle"]["retires"]["vertex"]["source"] = "hearsay"
    with pytest.raises(ValueError, match="unknown sources are named: hearsay"):
        Card.model_validate(facts)


@pytest.mark.parametrize(
    ("back_ends", "codes"), [(("vertex", "gemini"), ["model_retires"]), (("gemini",), [])]
)
def test_an_answer_warns_of_an_end_at_a_back_end_that_may_be_called(
    back_ends: tuple[str, ...], codes: list[str]
) -> None:
    soon = datetime.now(UTC).date() + timedelta(days=30)
    catalogue = Catalogue((retiring(vertex=Retirement(day=soon, source="lifecycle")),))
    policy = Policy(back_ends=back_ends)
    job = build_job(
        Order(CALLER, REQUEST), catalogue, policy, Allowances(), TimeConfig(upstream_timeout_s=60)
    )
    assert [notice.code for notice in job.notices] == codes
