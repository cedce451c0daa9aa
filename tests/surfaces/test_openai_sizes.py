"""``size`` in the words of a card's grid: exact cells exactly, never smaller, far sizes refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cards import load_catalogue
from app.surfaces.openai.sizes import (
    find_covering_cell,
    find_exact_cell,
    find_nearest_cell,
    find_quality,
    iterate_cells,
)

if TYPE_CHECKING:
    from app.domain.card import Card

CARDS = list(load_catalogue())
SEED = next(card for card in CARDS if card.id == "gemini-3.1-flash-image")
SIDES = st.integers(1, 99_999)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_every_cell_is_found_by_its_pixels_and_no_two_share_them(card: Card) -> None:
    grid = list(iterate_cells(card))
    assert len(grid) == len(card.aspect_ratios) * len(card.image_sizes)
    for cell in grid:
        assert find_nearest_cell(card, cell.width, cell.height) == find_exact_cell(card, *cell[2:]) == cell
        assert find_covering_cell(card, cell.width, cell.height) == cell


@pytest.mark.parametrize(
    ("size", "cell"),
    [
        # What the original's own sizes come to.
        ("1024x1024", ("1:1", "1K")),
        ("1536x1024", ("3:2", "2K")),
        ("1024x1536", ("2:3", "2K")),
        ("1792x1024", ("16:9", "2K")),
        ("1024x1792", ("9:16", "2K")),
        ("256x256", ("1:1", "512")),
        ("512x512", ("1:1", "512")),
        ("2560x1440", ("16:9", "2K")),
        ("3840x2160", ("16:9", "4K")),
        ("1920x1080", ("16:9", "2K")),
        ("3000x2000", ("3:2", "4K")),
        ("1440x1440", ("1:1", "2K")),
        ("1025x1025", ("1:1", "2K")),
        # Larger than every cell.
        ("6000x6000", ("1:1", "4K")),
        # 792x168 is nearly 5:1, and is what the model draws for 21:9.
        ("792x168", ("21:9", "512")),
        ("790x170", ("4:1", "512")),
        ("5504x3072", ("16:9", "4K")),
    ],
)
def test_a_size_has_its_cell(size: str, cell: tuple[str, str]) -> None:
    width, height = (int(side) for side in size.split("x"))
    found = find_covering_cell(SEED, width, height)
    assert found is not None
    assert found[:2] == cell


@pytest.mark.parametrize("size", ["1x1", "255x255", "99999x99999", "8193x8193", "100x2000", "2000x100"])
def test_a_size_far_from_every_cell_has_none(size: str) -> None:
    width, height = (int(side) for side in size.split("x"))
    assert find_covering_cell(SEED, width, height) is None


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
@given(SIDES, SIDES)
def test_no_cell_is_smaller_than_asked_where_a_larger_one_exists(card: Card, width: int, height: int) -> None:
    found = find_covering_cell(card, width, height)
    if found is not None and not (found.width >= width and found.height >= height):
        row = [cell for cell in iterate_cells(card) if cell.aspect_ratio == found.aspect_ratio]
        assert found == row[-1]
        assert not any(cell.width >= width and cell.height >= height for cell in row)


@given(SIDES, SIDES)
def test_a_picture_and_its_mirror_have_the_same_size(width: int, height: int) -> None:
    if (found := find_nearest_cell(SEED, width, height)).aspect_ratio not in {"21:9", "9:21"}:
        assert find_nearest_cell(SEED, height, width).image_size == found.image_size


@given(SIDES, SIDES)
def test_no_cell_of_the_same_ratio_is_nearer(width: int, height: int) -> None:
    found = find_nearest_cell(SEED, width, height)

    def off(area: int) -> float:
        return max(area / (width * height), width * height / area)

    row = [cell for cell in iterate_cells(SEED) if cell.aspect_ratio == found.aspect_ratio]
    if found[2:] != (width, height):
        assert (
            off(found.width * found.height) <= min(off(each.width * each.height) for each in row) * 1.000001
        )


def test_the_quality_of_a_picture_is_the_one_that_asks_for_it() -> None:
    assert [find_quality(SEED, *SEED.pixels["16:9"][size]) for size in ("512", "1K", "2K", "4K")] == [
        "low",
        "medium",
        "high",
        "max",
    ]
    assert find_quality(SEED, 1370, 770) == "medium"
