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
"""Largest factor below the smallest and above the largest cell: one step, to OpenAI's smallest size."""


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
    row = list_cells_of_ratio(card, width, height)
    return min(row, key=lambda cell: _measure_distance(width * height, cell.width * cell.height))


def find_covering_cell(card: Card, width: int, height: int) -> Cell | None:
    """Return the cell to deliver for these pixels, or None if the card has nothing near.

    It is the cell of exactly these pixels, else the smallest of the nearest aspect ratio that is at least as
    wide and as high, else the largest of that ratio.
    """
    exact = find_exact_cell(card, width, height)
    if exact is not None:
        return exact
    row = list_cells_of_ratio(card, width, height)
    ratio = _parse_ratio(row[0].aspect_ratio)
    smallest, largest = (cell.width * cell.height for cell in (row[0], row[-1]))
    is_near = _measure_distance(width / height, ratio) <= math.log(RATIO_FACTOR_MAX)
    if not is_near or not smallest / AREA_FACTOR_MAX <= width * height <= largest * AREA_FACTOR_MAX:
        return None
    return next((cell for cell in row if cell.width >= width and cell.height >= height), row[-1])


def list_cells_of_ratio(card: Card, width: int, height: int) -> list[Cell]:
    """Return the cells of the aspect ratio that is nearest to these pixels, smallest first."""
    ratio = min(card.aspect_ratios, key=lambda name: _measure_distance(width / height, _parse_ratio(name)))
    return [cell for cell in iterate_cells(card) if cell.aspect_ratio == ratio]


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
