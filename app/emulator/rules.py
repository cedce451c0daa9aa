"""Fault rules: which calls get which rehearsals, from a file or by ``PUT /emulator/faults``.

A rule counts the calls that it matches from 1, and applies to those from ``first`` to ``last``, or to a
random ``share`` of them. The choice depends on the seed and the count only, so it is reproducible. All rules
that apply to a call are combined: later rules override earlier ones, and rehearsals in the prompt override
rules.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.domain.errors import ConfigurationError
from app.domain.requirements import describe_requirement
from app.emulator.behaviour import PLAIN, Behaviour
from app.emulator.latency import draw_number
from app.emulator.rehearsals import find_behaviour, parse_rehearsal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BYTES_MAX = 262_144
_PROMPT_SEARCHED = 4096
_Short = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Strict):
    """The conditions of a rule; all that are set must hold.

    Attributes:
        prompt: Text in the prompt, case-insensitive.
        pattern: Regular expression that matches in the prompt's first 4096 characters.
        headers: Header fields with exact values; ``*`` matches any value. The gateway sends the tenant in
            ``x-flashgate-tenant``.
        image_size: Requested size, such as ``4K``.
        model: A card's id.
    """

    prompt: _Short | None = None
    pattern: _Short | None = None
    headers: dict[_Short, _Short] = Field(default_factory=dict, max_length=10)
    image_size: _Short | None = None
    model: _Short | None = None

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern

    def fits(self, call: Call) -> bool:
        """Whether a call meets the conditions."""
        return (
            (self.prompt is None or self.prompt.casefold() in call.prompt.casefold())
            and (self.pattern is None or re.search(self.pattern, call.prompt[:_PROMPT_SEARCHED]) is not None)
            and self.image_size in {None, call.image_size}
            and self.model in {None, call.model}
            and all(_has_header(call.headers, name, value) for name, value in self.headers.items())
        )


class Rule(_Strict):
    """The rehearsals for the calls that match."""

    rehearse: Annotated[list[_Short], Field(min_length=1, max_length=10)]
    name: _Short | None = None
    match: Match = Match()
    share: float = Field(1.0, gt=0, le=1)
    first: int = Field(1, ge=1)
    last: int | None = Field(None, ge=1)

    @field_validator("rehearse", mode="before")
    @classmethod
    def _wrap_single(cls, rehearse: object) -> object:
        if isinstance(rehearse, str):
            return [rehearse]
        return rehearse

    @field_validator("rehearse")
    @classmethod
    def _check_names(cls, rehearse: list[str]) -> list[str]:
        for word in rehearse:
            parse_rehearsal(word)
        return rehearse

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last ({self.last}) is before first ({self.first})")
        return self


class FaultRules(_Strict):
    """The whole document."""

    seed: int = 0
    rules: Annotated[list[Rule], Field(max_length=1000)] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Call:
    """The facts of a call. Header names are in lower case; ``attempt`` counts the same request from 1."""

    prompt: str
    headers: Mapping[str, str]
    image_size: str
    model: str
    attempt: int


class Rulebook:
    """The rules in force, and how often each was met. Used from one event loop only."""

    def __init__(self, rules: FaultRules | None = None) -> None:
        self.replace(rules or FaultRules())

    def replace(self, rules: FaultRules) -> None:
        """Replace the rules and reset their counts."""
        self._rules = rules
        self._matched = [0] * len(rules.rules)
        self._struck = [0] * len(rules.rules)

    def apply(self, call: Call) -> Behaviour:
        """Count a call in the rules that match it, and return their combined behaviour."""
        combined = PLAIN
        for number, rule in enumerate(self._rules.rules):
            if not rule.match.fits(call):
                continue
            self._matched[number] += 1
            count = self._matched[number]
            if count < rule.first or (rule.last is not None and count > rule.last):
                continue
            if draw_number(self._rules.seed, number, count) >= rule.share:
                continue
            self._struck[number] += 1
            for word in rule.rehearse:
                combined = combined.overlay(find_behaviour(*parse_rehearsal(word), call.attempt))
        return combined

    def document(self) -> dict[str, Any]:
        """As ``GET /emulator/faults`` shows it: the rules, with ``matched`` and ``struck`` calls of each."""
        shown = self._rules.model_dump(exclude_defaults=True)
        rules = [
            rule | {"matched": matched, "struck": struck}
            for rule, matched, struck in zip(shown.get("rules", []), self._matched, self._struck, strict=True)
        ]
        return {"seed": self._rules.seed, "rules": rules}


def read_rules(text: bytes) -> FaultRules:
    """Rules from JSON or YAML. Raises BadRules naming every field at fault."""
    if len(text) > BYTES_MAX:
        raise BadRules([("", f"has more than {BYTES_MAX} bytes")])
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise BadRules([("", "is neither JSON nor YAML")]) from None
    try:
        return FaultRules.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise BadRules(
            [
                (_format_path(fault["loc"]), describe_requirement(fault["type"], fault.get("ctx")))
                for fault in faults
            ]
        ) from None


def load_rules(path: Path) -> FaultRules:
    """Rules from a file. Raises ConfigurationError with every fault, or with why it cannot be read."""
    try:
        with path.open("rb") as file:
            return read_rules(file.read(BYTES_MAX + 1))
    except OSError as error:
        raise ConfigurationError(str(path), (f"cannot be read: {error.strerror}",)) from None
    except BadRules as error:
        raise ConfigurationError(
            str(path), tuple(f"{field}: {what}" for field, what in error.faults)
        ) from None


class BadRules(ValueError):
    """Not rules: for each fault the path of its field, such as ``rules[0].share``, and a sentence."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {what}" if field else what for field, what in faults))
        self.faults = [(field or "the document", what) for field, what in faults]


def _format_path(location: tuple[int | str, ...]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return steps.removeprefix(".")


def _has_header(headers: Mapping[str, str], name: str, value: str) -> bool:
    actual = headers.get(name.lower())
    return actual is not None and value in {"*", actual}
