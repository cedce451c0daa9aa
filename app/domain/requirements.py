"""Plain phrases for pydantic's error types: what a value must be.

Pydantic's own messages address the programmer of a model: they mention dictionaries, parsing and classes.
These tell the author of a JSON document what is accepted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_LENGTH_MAX: Final = 300
"""Characters of a phrase, which may otherwise repeat a long value."""

_MISSING: Final = frozenset({"missing", "missing_argument"})
_OUT_OF_RANGE: Final = frozenset(
    {
        "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number",
        "too_short", "too_long", "string_too_short", "string_too_long", "decimal_max_digits",
        "decimal_max_places", "decimal_whole_digits",
    }
)  # fmt: skip
_CHOICES: Final = frozenset({"literal_error", "enum"})

_OBJECT: Final = "must be a JSON object"
_LIST: Final = "must be a list"
_WHOLE: Final = "must be a whole number"
_NUMBER: Final = "must be a number"
_TRUE_OR_FALSE: Final = "must be true or false"
_DATE: Final = "must be a date such as 2026-11-22"
_MOMENT: Final = "must be a time with its zone, such as 2026-11-22T12:00:00Z"
_PHRASES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "missing_argument": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "dataclass_exact_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "invalid_key": "must have names that are strings",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "set_item_not_hashable": "must be a string or a number",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode text",
    "string_not_ascii": "must be ASCII text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "bool_type": _TRUE_OR_FALSE,
    "bool_parsing": _TRUE_OR_FALSE,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "decimal_max_digits": "must have at most {max_digits} digits",
    "decimal_max_places": "must have at most {decimal_places} digits after the point",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the point",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "multiple_of": "must be a multiple of {multiple_of}",
    "none_required": "must be null",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "timezone_aware": _MOMENT,
    "timezone_offset": _MOMENT,
    "json_invalid": "must be JSON",
    "json_type": "must be JSON",
    "recursion_loop": "is nested too deeply",
    "recursion_depth_exceeded": "is nested too deeply",
}
_ANYTHING_ELSE: Final = "is not accepted"


def describe_requirement(kind: str, context: Mapping[str, object] | None = None) -> str:
    """The phrase that follows a field's name, without a full stop: ``must be a list``.

    Args:
        kind: Pydantic's error type.
        context: Its context, which holds the sentence of a validator of ours.
    """
    details = context or {}
    if kind in {"too_short", "too_long"} and details.get("field_type") == "Value":
        kind = f"string_{kind}"  # a secret, which is a text
    if kind == "value_error" and details.get("error"):
        phrase = str(details["error"])
    elif kind in _CHOICES and (choices := list_choices(kind, details)):
        *first, last = choices
        phrase = f"must be {', '.join(first)} or {last}" if first else f"must be {last}"
    else:
        phrase = _PHRASES.get(kind, _ANYTHING_ELSE).format_map(_Context(details))
    return phrase if len(phrase) <= _LENGTH_MAX else f"{phrase[:_LENGTH_MAX]}…"


class _Context(dict[str, object]):
    """A context in which nothing is missing."""

    def __missing__(self, name: str) -> str:
        return "…"


def list_choices(kind: str, context: Mapping[str, object] | None = None) -> tuple[str, ...] | None:
    """The values that a field accepts, where pydantic lists them, else None."""
    if kind not in _CHOICES:
        return None
    return tuple(re.findall(r"'([^']*)'", str((context or {}).get("expected", "")))) or None


def classify_kind(kind: str) -> str:
    """The violation code of an error type, such as ``required`` or ``wrong_type``."""
    if kind in _MISSING:
        return "required"
    if kind == "extra_forbidden":
        return "unknown_field"
    if kind in _CHOICES:
        return "wrong_value"
    if kind in _OUT_OF_RANGE:
        return "out_of_range"
    return "invalid_value" if kind in {"value_error", "string_pattern_mismatch"} else "wrong_type"
