"""Aspect ratio and size in Google's two places: ``imageConfig``, and its successor ``responseFormat``.

The older one takes the card's words (``16:9``, ``2K``), the newer one only those of an enumeration
(docs/model.md#sizes-in-requests). The gateway accepts both in both places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import Violation
from app.domain.size_words import PREFIX, format_size_word, parse_size_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NUMBERS: Final = {
    "ONE": 1, "TWO": 2, "THREE": 3, "FOUR": 4, "FIVE": 5, "EIGHT": 8, "NINE": 9, "SIXTEEN": 16,
    "TWENTY_ONE": 21,
}  # fmt: skip
_SIZES: Final = ("512", "1K", "2K", "4K")
"""In the order of Google's enumeration, because its numbers are accepted too."""
_RATIO: Final = "ASPECT_RATIO_"
_IN_THE_ANSWER: Final = (None, "DELIVERY_UNSPECIFIED", "INLINE")
_UNSPECIFIED: Final = "UNSPECIFIED"

RATIO_WORDS: Final = tuple(
    _RATIO + word
    for word in (
        *(_UNSPECIFIED, "ONE_BY_ONE", "TWO_BY_THREE", "THREE_BY_TWO", "THREE_BY_FOUR", "FOUR_BY_THREE"),
        *("FOUR_BY_FIVE", "FIVE_BY_FOUR", "NINE_BY_SIXTEEN", "SIXTEEN_BY_NINE", "TWENTY_ONE_BY_NINE"),
        *("ONE_BY_EIGHT", "EIGHT_BY_ONE", "ONE_BY_FOUR", "FOUR_BY_ONE"),
    )
)
SIZE_WORDS: Final = (PREFIX + _UNSPECIFIED, *map(format_size_word, _SIZES))


def parse_ratio(word: str) -> str | None:
    """Parse ``ASPECT_RATIO_SIXTEEN_BY_NINE`` to ``16:9``; other words are left for the card's rules.

    An empty text is protobuf's default and means that nothing was chosen.
    """
    if word in {"", _RATIO + _UNSPECIFIED}:
        return None
    across, _, down = word.removeprefix(_RATIO).partition("_BY_")
    if across in _NUMBERS and down in _NUMBERS:
        return f"{_NUMBERS[across]}:{_NUMBERS[down]}"
    return word


def parse_size(word: str) -> str | None:
    """Parse ``IMAGE_SIZE_TWO_K`` to ``2K``; other words are left for the card's rules."""
    if word in {"", PREFIX + _UNSPECIFIED}:
        return None
    return parse_size_word(word) or word


_PARSERS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "aspectRatio": parse_ratio,
    "imageSize": parse_size,
}


def merge_sizes(config: dict[str, Any], faults: list[Violation]) -> dict[str, Any]:
    """Move aspect ratio and size to ``imageConfig``, where every back end accepts them, in the card's words.

    What is left of ``responseFormat`` has no counterpart in other dialects.
    """
    image, formats = _normalize_words(config.get("imageConfig", {})), []
    for at, item in enumerate(config.get("responseFormat", ())):
        remainder = dict(item or {})
        newer = _normalize_words(remainder.pop("image", {}))
        if newer.get("mimeType") == "image/jpeg":
            newer["mimeType"] = "IMAGE_JPEG"
        faults += _check_image(newer, image, f"/generationConfig/responseFormat/{at}/image")
        image |= {name: newer.pop(name) for name in _PARSERS if name in newer}
        if newer.get("delivery") in _IN_THE_ANSWER:
            newer.pop("delivery", None)
        if newer:
            remainder["image"] = newer
        if remainder:
            formats.append(remainder)
    changed = {"imageConfig": image, "responseFormat": formats}
    others = {name: value for name, value in config.items() if name not in changed}
    return {**others, **{name: value for name, value in changed.items() if value}}


def _normalize_words(image: Mapping[str, Any]) -> dict[str, Any]:
    read = {
        name: _PARSERS[name](value) if name in _PARSERS and isinstance(value, str) else value
        for name, value in image.items()
    }
    return {name: value for name, value in read.items() if value is not None}


def _check_image(newer: Mapping[str, Any], older: Mapping[str, Any], place: str) -> list[Violation]:
    violations = []
    if newer.keys() & older.keys() & _PARSERS.keys():
        detail = "Give aspect ratio and size once: in image_config or in response_format."
        violations.append(Violation(place, "given_twice", detail))
    if newer.get("delivery") not in _IN_THE_ANSWER:
        detail = "Pictures are delivered inline; Google would store them where the caller cannot read them."
        violations.append(Violation(f"{place}/delivery", "unsupported_delivery", detail, ("INLINE",)))
    return violations
