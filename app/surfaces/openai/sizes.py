"""``size`` and ``quality`` in the card's own words: a cell of its grid, and the way back for the answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card

RATIO_FACTOR_MAX: Final = 1.5
"""How far the sides' ratio may be from a cell's. Between any two neighbours on the card it is less."""
AREA_FACTOR_MAX: Final = 4.0
"""How far the area may be from a cell's: one step of sizes, and the smallest size that the original knew."""


class Cell(NamedTuple):
    """One picture of a card's grid, in pixels."""

    aspect_ratio: str
    image_size: str
    width: int
    height: int


def iterate_cells(card: Card) -> Iterator[Cell]:
    """The whole grid, cheaper sizes first."""
    for size in card.image_sizes:
        for ratio in card.aspect_ratios:
            yield Cell(ratio, size, *card.pixels[ratio][size])


def find_exact_cell(card: Card, width: int, height: int) -> Cell | None:
    """The cell of exactly these pixels, if there is one."""
    return next((cell for cell in iterate_cells(card) if cell[2:] == (width, height)), None)


def find_nearest_cell(card: Card, width: int, height: int) -> Cell:
    """The cell of exactly these pixels; else of the nearest ratio, and in it of the nearest area.

    Distances are factors, so twice as much is as far as half as much; of two equal ones the cheaper wins.
    """
    exact = find_exact_cell(card, width, height)
    if exact is not None:
        return exact
    ratio = min(card.aspect_ratios, key=lambda name: _measure_distance(width / height, _parse_ratio(name)))
    row = [cell for cell in iterate_cells(card) if cell.aspect_ratio == ratio]
    return min(row, key=lambda cell: _measure_distance(width * height, cell.width * cell.height))


def is_near(cell: Cell, width: int, height: int) -> bool:
    """Whether a cell is near enough to be delivered for these pixels without misleading anybody."""
    if (cell.width, cell.height) == (width, height):
        return True
    return _measure_distance(width / height, _parse_ratio(cell.aspect_ratio)) <= math.log(
        RATIO_FACTOR_MAX
    ) and _measure_distance(width * height, cell.width * cell.height) <= math.log(AREA_FACTOR_MAX)


def find_quality(card: Card, width: int, height: int) -> str | None:
    """The quality that asks for a picture of these pixels, or None where none does."""
    qualities = card.image_sizes[find_nearest_cell(card, width, height).image_size].qualities
    return qualities[0] if qualities else None


def _parse_ratio(name: str) -> float:
    wide, high = name.split(":")
    return int(wide) / int(high)


def _measure_distance(one: float, other: float) -> float:
    return abs(math.log(one / other))
