"""Google's JSON: field names in both cases, field paths, and typed access to members."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import Violation
from app.domain.pointers import build_pointer, split_pointer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.media.lifting import Lifted

_HUMP: Final = re.compile(r"_([a-z0-9])")
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?", re.ASCII)
_WHOLE: Final = re.compile(r"-?\d{1,18}", re.ASCII)

# Google's field path for each field of the card's rules. Inputs already point to their own place.
_FIELDS: Final[Mapping[str, str]] = {
    "prompt": "contents",
    "images": "contents",
    "documents": "contents",
    "videos": "contents",
    "aspect_ratio": "generation_config.image_config.aspect_ratio",
    "image_size": "generation_config.image_config.image_size",
    "output_mime_type": "generation_config.image_config.image_output_options.mime_type",
    "output_compression_quality": "generation_config.image_config.image_output_options.compression_quality",
    "thinking_level": "generation_config.thinking_config.thinking_level",
    "grounding": "tools",
    **{
        name: f"generation_config.{name}"
        for name in (
            "response_modalities",
            "temperature",
            "top_p",
            "top_k",
            "candidate_count",
            "seed",
            "max_output_tokens",
        )
    },
}


def convert_to_camel_case(name: str) -> str:
    """Convert a field name to JSON: ``image_size`` to ``imageSize`` (protobuf's JSON mapping)."""
    return _HUMP.sub(lambda match: match[1].upper(), name)


def format_field_path(pointer: str) -> str:
    """Convert a JSON pointer to Google's field path: ``contents[0].parts[1].inline_data``."""
    first, *steps = split_pointer(pointer) or [""]
    path = _FIELDS.get(first, _convert_to_snake_case(first))
    for step in steps:
        path += f"[{step}]" if step.isdecimal() else f".{_convert_to_snake_case(step)}"
    return path


def _convert_to_snake_case(name: str) -> str:
    return _CAPITAL.sub(lambda match: "_" + match[1].lower(), name)


def find_lifted(
    value: object, blobs: Mapping[str, Lifted], pointer: str = ""
) -> Iterator[tuple[str, Lifted]]:
    """Yield every lifted string of a JSON value, with its pointer."""
    pending: list[tuple[str, object]] = [(pointer, value)]
    while pending:
        place, item = pending.pop()
        if isinstance(item, dict):
            pending += [(place + build_pointer(name), inner) for name, inner in item.items()]
        elif isinstance(item, list):
            pending += [(f"{place}/{at}", inner) for at, inner in enumerate(item)]
        elif isinstance(item, str) and item in blobs:
            yield place, blobs[item]


def ensure_list(value: object) -> list[Any]:
    """Return the items of a repeated field; Google accepts a single item without a list."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    return [value]


class Fields:
    """Takes members out of a message one by one; the others stay in ``rest``.

    Args:
        value: The message, or None.
        pointer: JSON pointer of the message.
        faults: Collects violations of members with a wrong type, which are ignored otherwise.
    """

    def __init__(self, value: object, pointer: str, faults: list[Violation]) -> None:
        self.rest: dict[str, Any] = {}
        if isinstance(value, dict):
            self.rest = dict(value)
        self.pointer = pointer
        self._faults = faults
        if value is not None and not isinstance(value, dict):
            self._report_type(pointer, "an object")

    def _report_type(self, pointer: str, expected: str) -> None:
        self._faults.append(Violation(pointer, "wrong_type", f"This must be {expected}."))

    def _take(self, name: str, expected: str, accepted: type | tuple[type, ...]) -> Any:
        value = self.rest.pop(name, None)
        if value is None or (
            isinstance(value, accepted) and (not isinstance(value, bool) or accepted is bool)
        ):
            return value
        self._report_type(f"{self.pointer}/{name}", expected)
        return None

    def take_text(self, name: str) -> str | None:
        """Take a string."""
        value: str | None = self._take(name, "a string", str)
        return value

    def take_flag(self, name: str) -> bool | None:
        """Take a boolean."""
        value: bool | None = self._take(name, "true or false", bool)
        return value

    def take_number(self, name: str) -> float | None:
        """Take a number; protobuf's JSON also writes one as a string."""
        value = self._take(name, "a number", (int, float, str))
        if not isinstance(value, str):
            number: float | None = value
            return number
        if _NUMBER.fullmatch(value):
            return float(value)
        self._report_type(f"{self.pointer}/{name}", "a number")
        return None

    def take_integer(self, name: str) -> int | None:
        """Take an integer; protobuf's JSON also writes one as 7.0 or as a string."""
        value = self._take(name, "a whole number", (int, float, str))
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        self._report_type(f"{self.pointer}/{name}", "a whole number")
        return None

    def take_texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings."""
        items = ensure_list(self.rest.pop(name, None))
        if all(isinstance(item, str) for item in items):
            return tuple(items)
        self._report_type(f"{self.pointer}/{name}", "a list of strings")
        return ()

    def take_message(self, name: str) -> Fields:
        """Take a nested message; ``put_back`` returns what is left of it."""
        return Fields(self.rest.pop(name, None), f"{self.pointer}/{name}", self._faults)

    def put_back(self, name: str, inner: Fields) -> None:
        """Put back what is left of a nested message."""
        if inner.rest:
            self.rest[name] = inner.rest
