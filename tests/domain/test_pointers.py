"""JSON pointers are read back as they were made, and no name of a caller's can break or fill one."""

from __future__ import annotations

import pytest

from app.domain.pointers import STEP_LENGTH_MAX, build_pointer, split_pointer


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), ""),
        (("",), "/"),
        (("a/b", "m~n", 0), "/a~1b/m~0n/0"),
        (("~1",), "/~01"),
    ],
)
def test_a_pointer_is_read_back_as_it_was_made(steps: tuple[str | int, ...], text: str) -> None:
    assert build_pointer(*steps) == text
    assert split_pointer(text) == [str(step) for step in steps]


def test_an_endless_name_is_cut_before_it_is_escaped() -> None:
    assert build_pointer("/" * 1000) == "/" + "~1" * STEP_LENGTH_MAX


def test_half_a_surrogate_pair_can_be_sent() -> None:
    assert build_pointer("\ud800") == "/?"
