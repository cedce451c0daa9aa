"""JSON pointers are read back as they were made, and no name of a caller's can break or fill one."""

from __future__ import annotations

import pytest

from app.domain.pointers import STEP_LENGTH_MAX, pointer_to, steps_of


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
    assert pointer_to(*steps) == text
    assert steps_of(text) == [str(step) for step in steps]


def test_an_endless_name_is_cut_before_it_is_escaped() -> None:
    assert pointer_to("/" * 1000) == "/" + "~1" * STEP_LENGTH_MAX


def test_half_a_surrogate_pair_can_be_sent() -> None:
    assert pointer_to("\ud800") == "/?"
