"""Counts are written as counts, and dollars to the cent."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from app.surfaces.http.amounts import Amount


class Window(BaseModel):
    """What is left."""

    left: Amount


@pytest.mark.parametrize(
    ("amount", "written"), [(1120, "1120"), (1120.0, "1120"), (0.0672, "0.0672"), (2**53, str(2**53))]
)
def test_an_amount_is_written_as_shortly_as_it_can_be(amount: float, written: str) -> None:
    assert Window(left=amount).model_dump_json() == f'{{"left":{written}}}'


def test_the_document_says_number() -> None:
    for mode in ("validation", "serialization"):
        assert Window.model_json_schema(mode=mode)["properties"]["left"]["type"] == "number"
