"""Every fact of a card is enforced by a rule with cases, or a reason is written down."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from app.domain.card import Card, Evidence, Prices, Range, SeedRange, Source
from app.domain.validation import RULES
from tests.domain.validation_cases import BAD, GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FACTS, WITHOUT_A_FACT, IN_NO_CARD = (
    [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| ")
    ][1:]
    for table in (ROOT / "docs/card.md").read_text().split("\n## ")
)
WHOLE = (Evidence, Range, SeedRange, Source, Prices)
"""Facts that are one thing although they have parts."""


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The class of facts that a field holds, one or many of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation in WHOLE else annotation
    if get_origin(annotation) in {tuple, Mapping, Union, types.UnionType}:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def facts_of(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every fact, by its path in a card."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None or name == "aliases":
            yield f"{above}{name}"
        else:
            yield from facts_of(inner, f"{above}{name}.")


def test_every_fact_of_a_card_has_a_row() -> None:
    assert [row[0].strip("`") for row in FACTS] == list(facts_of(Card))


@pytest.mark.parametrize("row", FACTS, ids=lambda row: row[0])
def test_a_fact_is_held_by_rules_with_cases_or_there_is_a_reason(row: list[str]) -> None:
    held_by = re.findall(r"`(\w+)`: ((?:`\w+`(?:, )?)+)", row[1])
    assert held_by or re.match(r"\*no rule\*: \w", row[1])
    for rule, codes in held_by:
        assert rule in {case.rule for case in GOOD}
        for code in re.findall(r"\w+", codes):
            assert code in {case.code for case in BAD if case.rule == rule}


def test_every_rule_is_told() -> None:
    told = {rule for row in FACTS for rule in re.findall(r"`(\w+)`: `", row[1])}
    alone = {row[0].strip("`") for row in WITHOUT_A_FACT}
    assert told | alone == {rule.__name__.removeprefix("check_") for rule in RULES}
    assert not told & alone


def test_what_is_in_no_card_has_a_reason() -> None:
    assert len(IN_NO_CARD) >= 8
    assert all(len(row) == 2 and all(row) for row in (*WITHOUT_A_FACT, *IN_NO_CARD))
