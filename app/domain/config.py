"""What a part is configured with: one class a part, which the settings are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

_LIST: Final = 'must be a list such as a,b or, as JSON, ["a", "b"]'
_PAIRS: Final = 'must be pairs such as a=1,b=2 or, as JSON, {"a": 1, "b": 2}'


class Config(BaseModel):
    """The values that one part takes as an argument, each with its only default.

    A field with a description is a setting, read from the environment (``app/settings``). One without is a
    constant, a field only so that tests can make it smaller. Lists and pairs may be written as text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _parse_text(cls, value: Any, info: ValidationInfo) -> Any:
        kind = get_origin(cls.model_fields[info.field_name or ""].annotation)
        if not isinstance(value, str) or kind not in {frozenset, Mapping}:
            return value
        is_list = kind is frozenset
        if value.lstrip().startswith(("[", "{")):
            return _parse_json(value, is_list=is_list)
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return parts if is_list else _parse_pairs(parts)


def _parse_json(text: str, *, is_list: bool) -> Any:
    kind, fault = (list, _LIST) if is_list else (dict, _PAIRS)
    try:
        parsed = json.loads(text)
    except ValueError:
        raise ValueError(fault) from None
    if isinstance(parsed, kind):
        return parsed
    raise ValueError(fault)


def _parse_pairs(parts: list[str]) -> dict[str, str]:
    """Split names from values; one without an equals sign goes on with a value: ``a=vertex,gemini``."""
    pairs: dict[str, str] = {}
    name = ""
    for part in parts:
        before, sign, value = part.partition("=")
        if sign:
            name = before.strip()
            pairs[name] = value.strip()
        elif name:
            pairs[name] += f",{part}"
        else:
            raise ValueError(_PAIRS)
    return pairs
