"""Maps ``size`` and ``quality`` to cells of the card's grid, and back for the response."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.card import Card

RATIO_FACTOR_MAX: Final = 1.5
"""Largest factor between a requested aspect ratio and a cell's; neighbours on the card are closer."""
AREA_FACTOR_MAX: Final = 4.0
"""Largest factor between areas: one step of image sizes, which includes OpenAI's smallest size."""


class Cell(NamedTuple):
    """One combination of aspect ratio and image size, with its pixels."""

    aspect_ratio: str
    image_size: str
    width: int
    height: int


def iterate_cells(card: Card) -> Iterator[Cell]:
    """Yield the cells of the grid, cheaper sizes first."""
    for size in card.image_sizes:
        for ratio in card.aspect_ratios:
            yield Cell(ratio, size, *card.pixels[ratio][size])


def find_exact_cell(card: Card, width: int, height: int) -> Cell | None:
    """Return the cell of exactly these pixels, or None."""
    return next((cell for cell in iterate_cells(card) if cell[2:] == (width, height)), None)


def find_nearest_cell(card: Card, width: int, height: int) -> Cell:
    """Return the cell of exactly these pixels, or the one of the nearest aspect ratio and then area.

    Distances are factors: twice as much is as far as half as much. Of two equal ones the cheaper wins.
    """
    exact = find_exact_cell(card, width, height)
    if exact is not None:
        return exact
    ratio = min(card.aspect_ratios, key=lambda name: _measure_distance(width / height, _parse_ratio(name)))
    row = [cell for cell in iterate_cells(card) if cell.aspect_ratio == ratio]
    return min(row, key=lambda cell: _measure_distance(width * height, cell.width * cell.height))


def is_near(cell: Cell, width: int, height: int) -> bool:
    """Whether a cell is near enough to be delivered for these pixels."""
    if (cell.width, cell.height) == (width, height):
        return True
    return _measure_distance(width / height, _parse_ratio(cell.aspect_ratio)) <= math.log(
        RATIO_FACTOR_MAX
    ) and _measure_distance(width * height, cell.width * cell.height) <= math.log(AREA_FACTOR_MAX)


def find_quality(card: Card, width: int, height: int) -> str | None:
    """Return the quality that selects a picture of these pixels, or None."""
    qualities = card.image_sizes[find_nearest_cell(card, width, height).image_size].qualities
    if not qualities:
        return None
    return qualities[0]


def _parse_ratio(name: str) -> float:
    wide, high = name.split(":")
    return int(wide) / int(high)


def _measure_distance(one: float, other: float) -> float:
    return abs(math.log(one / other))
