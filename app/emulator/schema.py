"""A schema language for request messages, and the parser that reads JSON by it as Google's front end does.

Protobuf's JSON mapping takes every field in lowerCamelCase and in its original snake_case, bytes in both
base64 alphabets with or without padding, integers also as strings, and enumerations also by their numbers,
their words in any case (docs/model.md#json-and-base64). What it does not know is an error. The walk returns
lowerCamelCase throughout, with bytes decoded, and collects all faults.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pybase64

from app.emulator.errors import FieldFault

if TYPE_CHECKING:
    from collections.abc import Mapping

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
_INT32_MAX = 2**31 - 1
_FLOAT_MAX = 3.4028234663852886e38
_SCALAR_WORDS = {
    "string": "TYPE_STRING",
    "bytes": "TYPE_BYTES",
    "int32": "TYPE_INT32",
    "float": "TYPE_FLOAT",
    "bool": "TYPE_BOOL",
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf."""

    kind: Literal["string", "bytes", "int32", "float", "bool"]


@dataclass(frozen=True, slots=True)
class Enumeration:
    """A leaf of fixed words, in the order of their numbers. ``title`` is what Google calls the type."""

    title: str
    words: tuple[str, ...]

    def read(self, value: object) -> str | None:
        """The word that a value means, or None."""
        if isinstance(value, str):
            return next((word for word in self.words if word.lower() == value.lower()), None)
        known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.words)
        if known and isinstance(value, int):
            return self.words[value]
        return None


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list. ``lenient`` also takes a single element without its list."""

    element: Shape
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Anything:
    """A part of the request that is accepted and not looked into."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """Named fields, in lowerCamelCase. At most one of ``one_of`` may be set."""

    fields: Mapping[str, Shape]
    one_of: frozenset[str] = frozenset()
    spellings: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Index both spellings of every field."""
        both = {name: name for name in self.fields} | {to_snake_case(name): name for name in self.fields}
        object.__setattr__(self, "spellings", both)


Shape = Scalar | Enumeration | Repeated | Anything | Message

STRING, BYTES, INT32, FLOAT, BOOL = (
    Scalar("string"),
    Scalar("bytes"),
    Scalar("int32"),
    Scalar("float"),
    Scalar("bool"),
)
ANYTHING = Anything()


def to_snake_case(name: str) -> str:
    """``imageConfig`` as ``image_config``."""
    return _HUMP.sub("_", name).lower()


def read(value: object, shape: Shape, path: str, faults: list[FieldFault]) -> Any:  # noqa: PLR0911 - one a shape
    """``value`` in the shape's canonical form; whatever is wrong is appended to ``faults``.

    JSON null is an absent field, as in protobuf: None is returned for it and for whatever is at fault.
    """
    if value is None:
        return None
    match shape:
        case Message():
            return _read_message(value, shape, path, faults)
        case Repeated():
            if not isinstance(value, list):
                if not shape.lenient:
                    faults.append(_build_fault(path, "a repeated field", value))
                    return None
                value = [value]
            faults += [
                _build_fault(f"{path}[{at}]", "a value", item)
                for at, item in enumerate(value)
                if item is None
            ]
            return [read(item, shape.element, f"{path}[{at}]", faults) for at, item in enumerate(value)]
        case Enumeration():
            word = shape.read(value)
            if word is not None:
                return word
            faults.append(_build_fault(path, shape.title, value))
            return None
        case Scalar():
            return _read_scalar(value, shape, path, faults)
        case Anything():
            return value


def _read_message(
    value: object, shape: Message, path: str, faults: list[FieldFault]
) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        faults.append(_build_fault(path, "a message", value))
        return None
    fields: dict[str, Any] = {}
    for key, item in value.items():
        name = shape.spellings.get(key)
        if name is None:
            where = ""
            if path:
                where = f" at '{path}'"
            sentence = f'Invalid JSON payload received. Unknown name "{key}"{where}: Cannot find field.'
            faults.append(FieldFault(path, sentence))
            continue
        read_item = read(item, shape.fields[name], f"{path}.{to_snake_case(name)}".lstrip("."), faults)
        if read_item is not None:
            fields[name] = read_item
    taken = [name for name in fields if name in shape.one_of]
    if len(taken) > 1:
        sentence = (
            f"Invalid value at '{path}' (oneof), oneof field 'data' is already set. Cannot set '{taken[1]}'"
        )
        faults.append(FieldFault(path, sentence))
    return fields


def _read_scalar(  # noqa: PLR0911 - one a kind
    value: object, shape: Scalar, path: str, faults: list[FieldFault]
) -> Any:
    match shape.kind, value:
        case "string", str():
            return value
        case "bool", bool():
            return value
        case "int32" | "float", bool():
            pass
        case "float", int() | float() if abs(value) <= _FLOAT_MAX:
            return float(value)
        case "int32", int() if abs(value) <= _INT32_MAX or value == -_INT32_MAX - 1:
            return value
        case "int32", float() if value.is_integer() and abs(value) <= _INT32_MAX:
            return int(value)
        case "int32", str() if re.fullmatch(r"-?[0-9]{1,10}", value):
            return _read_scalar(int(value), shape, path, faults)
        case "bytes", str():
            decoded = decode_base64(value)
            if decoded is not None:
                return decoded
            shown = f'Base64 decoding failed for "{_shorten(value)}"'
            faults.append(FieldFault(path, f"Invalid value at '{path}' (TYPE_BYTES), {shown}"))
            return None
        case _:
            pass
    faults.append(_build_fault(path, _SCALAR_WORDS[shape.kind], value))
    return None


def decode_base64(text: str) -> bytes | None:
    """The bytes, from either alphabet and with or without padding; None for anything else."""
    try:
        raw = text.encode("ascii").rstrip(b"=")
        return pybase64.b64decode(raw.translate(_STANDARD_ALPHABET) + b"=" * (-len(raw) % 4), validate=True)
    except ValueError:
        return None


def _build_fault(path: str, expected: str, value: object) -> FieldFault:
    shown = f'"{_shorten(value)}"' if isinstance(value, str) else _shorten(json.dumps(value))
    return FieldFault(path, f"Invalid value at '{path}' ({expected}), {shown}")


def _shorten(text: str) -> str:
    if len(text) <= 80:
        return text
    return text[:80] + "..."
