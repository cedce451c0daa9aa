"""Parses rehearsals, the names of emulated faults, into behaviours.

A rehearsal is written ``NAME`` or ``NAME:ARGUMENT`` in a rule, and ``[[emulate:NAME]]`` in a prompt, which
may hold several. Rehearsals in a prompt are not drawn.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from app.emulator.behaviour import PLAIN, Behaviour
from app.emulator.errors import FieldFault, invalid_argument
from app.emulator.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.emulator.faults import Argument

_DIRECTIVE = re.compile(r"\[\[emulate:([a-z0-9-]+)(?::([^\]\s]{1,64}))?\]\]")
_WORD = re.compile(r"([a-z0-9-]{1,64})(?::(\S{1,64}))?")
_DELAY_S_MAX = 600.0
_THOUGHTS_MAX = 2
_BALLAST_MIB_MAX = 300
_QUERIES_MAX = 50


class MisspeltRehearsal(ValueError):
    """There is no rehearsal with this name or argument; the message says what is accepted."""


def _parse_seconds(argument: str) -> float | None:
    fits = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", argument) and float(argument) <= _DELAY_S_MAX
    if not fits:
        return None
    return float(argument)


def _parse_number(most: int) -> Callable[[str], int | None]:
    def read(argument: str) -> int | None:
        fits = re.fullmatch(r"[0-9]{1,9}", argument) and 1 <= int(argument) <= most
        if not fits:
            return None
        return int(argument)

    return read


def _match_pattern(pattern: str) -> Callable[[str], str | None]:
    return lambda argument: argument if re.fullmatch(pattern, argument) else None


_READ: Mapping[Argument, Callable[[str], Any]] = {
    "seconds": _parse_seconds,
    "name": _match_pattern(r"\S{1,64}"),
    "reason": _match_pattern(r"[A-Z][A-Z0-9_]{0,63}"),
    "code": _match_pattern(r"[0-9]{6,12}"),
    "count": _parse_number(_THOUGHTS_MAX),
    "queries": _parse_number(_QUERIES_MAX),
    "megabytes": _parse_number(_BALLAST_MIB_MAX),
}


def find_directives(prompt: str) -> list[tuple[str, str]]:
    """The (name, argument) pairs in a prompt, in order; the argument may be empty."""
    return [(match[1], match[2] or "") for match in _DIRECTIVE.finditer(prompt)]


def strip_directives(prompt: str) -> str:
    """The prompt as it is drawn."""
    return _DIRECTIVE.sub("", prompt).strip()


def combine_directives(prompt: str, attempt: int) -> Behaviour:
    """The behaviour for the ``attempt``-th call of a prompt, counted from 1.

    Raises GoogleError 400 for an invalid rehearsal, so that it cannot be mistaken for a success.
    """
    combined = PLAIN
    for name, argument in find_directives(prompt):
        try:
            combined = combined.overlay(find_behaviour(name, argument, attempt))
        except MisspeltRehearsal as error:
            raise invalid_argument(FieldFault("contents", str(error))) from error
    return combined


def parse_rehearsal(word: str) -> tuple[str, str]:
    """Name and argument of ``NAME`` or ``NAME:ARGUMENT``. Raises MisspeltRehearsal for anything else."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise MisspeltRehearsal(f"A rehearsal is NAME or NAME:ARGUMENT, not {word!r}.")
    name, argument = match[1], match[2] or ""
    find_behaviour(name, argument, 1)
    return name, argument


def find_behaviour(name: str, argument: str, attempt: int) -> Behaviour:
    """The behaviour of a rehearsal for the ``attempt``-th call of a request. Raises MisspeltRehearsal."""
    fault = FAULTS.get(name)
    if fault is None:
        raise MisspeltRehearsal(f"There is no rehearsal called {name}; there are {', '.join(FAULTS)}.")
    kind = fault.argument
    if not argument and kind in {"none", "times", "count"}:
        return fault.behaviour
    if kind == "times" and argument.isascii() and argument.isdecimal():
        if attempt <= int(argument):
            return fault.behaviour
        return PLAIN
    value = None
    if kind in _READ:
        value = _READ[kind](argument)
    if value is None:
        raise MisspeltRehearsal(f"The rehearsal {name} takes another argument ({kind}).")
    return dataclasses.replace(fault.behaviour, **{fault.fills: value})
