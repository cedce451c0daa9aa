"""Sizes in Google's enumeration: ``IMAGE_SIZE_TWO_K`` is 2K (docs/model.md#sizes-in-requests)."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "IMAGE_SIZE_"
_UNITS: Final = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
_OF_DIGITS: Final = {"512": "FIVE_TWELVE"}
"""Sizes that are no whole number of K are spelt as Google does."""


def format_size_word(size: str) -> str:
    """``IMAGE_SIZE_TWO_K`` for ``2K``. Raises ValueError for what is no size."""
    if size in _OF_DIGITS:
        return PREFIX + _OF_DIGITS[size]
    digits, unit = size[:-1], size[-1:]
    if unit != "K" or not digits.isdigit() or not 1 <= int(digits) <= len(_UNITS):
        raise ValueError(f"{size!r} has no word in Google's enumeration of sizes")
    return f"{PREFIX}{_UNITS[int(digits) - 1]}_K"


def parse_size_word(word: str) -> str | None:
    """``2K`` for ``IMAGE_SIZE_TWO_K``, or None for any other text."""
    bare = word.removeprefix(PREFIX)
    for size, digits in _OF_DIGITS.items():
        if bare == digits:
            return size
    number, _, unit = bare.rpartition("_")
    return f"{_UNITS.index(number) + 1}K" if unit == "K" and number in _UNITS else None
