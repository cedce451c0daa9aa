"""Query parameters and headers of the original APIs: each is honoured, without effect, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import Request

from app.domain.errors import ValidationFailed, Violation
from app.domain.generation import Notice
from app.domain.pointers import build_pointer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Parameter:
    """What becomes of one query parameter or header.

    Attributes:
        why: Why it is refused or has no effect; empty where it is honoured.
        values: The values that are accepted, or None for all.
        refused: Whether all other values are refused; else they are accepted without effect.
        told: Whether a notice says that it has no effect. One that every client sends is not worth a notice.
    """

    why: str = ""
    values: Collection[str] | None = None
    refused: bool = False
    told: bool = True


HONOURED: Final = Parameter()


def check_parameters(
    request: Request, queries: Mapping[str, Parameter], headers: Mapping[str, Parameter]
) -> tuple[Notice, ...]:
    """Return a notice for each parameter without effect.

    Args:
        request: The request.
        queries: All query parameters that the route knows. Any other is refused, as by Google.
        headers: Headers by lower-case name. All others have no meaning in the original.

    Raises:
        ValidationFailed: A query parameter is unknown, or a value is not supported.
    """
    matches = [(name, value, queries.get(name)) for name, value in request.query_params.multi_items()]
    matches += [
        (name, value, parameter)
        for name, parameter in headers.items()
        for value in request.headers.getlist(name)
    ]
    violations = tuple(_find_violations(matches))
    if violations:
        raise ValidationFailed(violations)
    ignored = {
        name: parameter.why
        for name, value, parameter in matches
        if parameter is not None and parameter.told and value not in (parameter.values or ())
    }
    details = [f"{name} has no effect: {why}." for name, why in ignored.items() if why]
    return tuple(Notice("parameter_without_effect", detail) for detail in details)


def _find_violations(matches: list[tuple[str, str, Parameter | None]]) -> Iterator[Violation]:
    for name, value, parameter in matches:
        if parameter is None:
            detail = "There is no such query parameter."
            yield Violation(build_pointer(name), "unknown_field", detail)
        elif parameter.refused and value not in (parameter.values or ()):
            allowed = tuple(parameter.values) if parameter.values else None
            detail = f"This is not supported: {parameter.why}."
            yield Violation(build_pointer(name), "unsupported_parameter", detail, allowed)


async def refuse_unknown_query(request: Request) -> None:
    """Refuse query parameters that the route does not have.

    Raises:
        ValidationFailed: There is one.
    """
    declared = request.scope["route"].dependant.query_params
    check_parameters(request, {parameter.alias: HONOURED for parameter in declared}, {})
