"""Fits text into a box: wrapped, as large as possible, never beyond the edges.

The font is Pillow's own, so that images are the same on every machine. It has the letters of ASCII: accents
are dropped, and other scripts are drawn as empty boxes.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from PIL import ImageDraw

    from app.emulator.background import Colour

_LEADING = 1.22
_CHARACTERS_MAX = 1600
SMALLEST = 9
_PLAIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "đ": "d", "¿": "?", "¡": "!"}
    | {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{MULTIPLICATION SIGN}": "x", "€": "EUR", "•": "·"}
)


@dataclass(frozen=True, slots=True)
class TextLayout:
    """Lines at a size in pixels, and how much room they take."""

    lines: tuple[str, ...]
    size: int
    width: int
    height: int


@lru_cache(maxsize=64)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The bundled face at a size in pixels, set without the optional shaping library."""
    face = ImageFont.load_default(size=size)
    if not isinstance(face, ImageFont.FreeTypeFont):  # pragma: no cover - Pillow built without FreeType
        raise TypeError("the emulator letters with TrueType faces, and this Pillow has none")
    return face.font_variant(layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=16384)
def _measure_advance(letter: str, size: int) -> float:
    return load_font(size).getlength(letter)


def _measure_width(text: str, size: int) -> float:
    """Pixels, from letter to letter; kerning only ever makes it less."""
    return sum(_measure_advance(letter, size) for letter in text)


def fit_text(text: str, width: int, height: int, largest: int, smallest: int = SMALLEST) -> TextLayout:
    """The largest setting of ``text`` within the box; at the smallest size it is cut, with an ellipsis."""
    words = _normalize_text(text[:_CHARACTERS_MAX]).split()
    low, high = smallest, max(smallest, min(largest, int(height / _LEADING)))
    best = _wrap(words, width, low)
    while low < high:
        middle = (low + high + 1) // 2
        tried = _wrap(words, width, middle, hyphenate=False)
        if tried is not None and tried.height <= height:
            low, best = middle, tried
        else:
            high = middle - 1
    if best is None:
        return TextLayout((), smallest, 0, 0)
    rows = max(1, int(height / (best.size * _LEADING)))
    if len(best.lines) > rows:
        lines = (*best.lines[: rows - 1], best.lines[rows - 1].rstrip()[:-1] + "…")
        return TextLayout(lines, best.size, best.width, round(rows * best.size * _LEADING))
    return best


def draw_text(draw: ImageDraw.ImageDraw, setting: TextLayout, at: tuple[int, int], colour: Colour) -> None:
    """Draw the lines from their top left corner."""
    if not setting.lines:
        return
    face = load_font(setting.size)
    left, top = at
    for row, line in enumerate(setting.lines):
        draw.text((left, top + row * setting.size * _LEADING), line, font=face, fill=colour)


def _wrap(words: list[str], width: int, size: int, *, hyphenate: bool = True) -> TextLayout | None:
    """Wrapped lines at a size; None where a word is too wide and may not be broken."""
    space = _measure_advance(" ", size)
    lines: list[str] = []
    line, used = "", 0.0
    for word in words:
        taken = _measure_width(word, size)
        if line and used + space + taken <= width:
            line, used = f"{line} {word}", used + space + taken
            continue
        if line:
            lines.append(line)
        if taken > width:
            if not hyphenate:
                return None
            *full, word = _break_word(word, width, size)  # noqa: PLW2901 - the rest of the word goes on
            lines += full
            taken = _measure_width(word, size)
        line, used = word, taken
    lines.append(line)
    face = load_font(size)
    widest = max(face.getlength(each) for each in lines)
    return TextLayout(tuple(lines), size, round(widest), round(len(lines) * size * _LEADING))


def _break_word(word: str, width: int, size: int) -> list[str]:
    """A word that is wider than a line, as pieces that are not; each has one letter at least."""
    pieces = [""]
    used = 0.0
    for letter in word:
        taken = _measure_advance(letter, size)
        if pieces[-1] and used + taken > width:
            pieces.append("")
            used = 0.0
        pieces[-1] += letter
        used += taken
    return pieces


def _normalize_text(text: str) -> str:
    """The text in letters that the face has, as far as they have a plain form."""
    plain = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(
        " " if unicodedata.category(letter)[0] == "C" else letter
        for letter in plain
        if not unicodedata.combining(letter)
    )
