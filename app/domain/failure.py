"""A failure as it is kept for others: for followers, and for repetitions under an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass, fields
from inspect import signature

from app.domain import errors, repetition

# Records of failures are read by the types of these fields.
from app.domain.budget import WindowState  # noqa: TC001
from app.domain.errors import (
    ContentBlocked,
    GatewayError,
    InvalidHistory,
    MaxTokens,
    UpstreamError,
    UpstreamInvalidRequest,
    Violation,
)
from app.domain.estimate import WouldFit  # noqa: TC001
from app.domain.generation import Spent, Usage  # noqa: TC001
from app.domain.rate import RateState  # noqa: TC001
from app.domain.refusals import Side  # noqa: TC001

EACH_CALLERS_OWN = frozenset({"windows", "rates", "replayed"})
"""Attributes of an error that belong to the caller who gets it; a stored failure has none of them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as data, without what belongs to one caller.

    Attributes:
        code: The error's code.
        final: True where the same request would fail again (a refusal), so followers must not repeat it.

    The others are the errors' attributes of the same names.
    """

    code: str
    detail: str
    reason: str | None = None
    support_code: str | None = None
    side: Side = "picture"
    final: bool = False
    verbatim: str = ""
    retry_after_s: int | None = None
    usage: Usage | None = None
    upstream_status: int | None = None
    billed: str = "no"
    daily: bool = False
    violations: tuple[Violation, ...] = ()
    refused_by: tuple[WindowState, ...] | tuple[RateState, ...] = ()
    would_fit: WouldFit | None = None
    sentences: tuple[str, ...] = ()
    spent: Spent | None = None
    expected_usd: int = 0
    most_usd: int = 0


_CARRIED = tuple(field.name for field in fields(Failure) if field.name not in {"code", "final"})


DEFINED_IN = (errors, repetition)
"""Every module that defines errors; a class is found among its parent's subclasses once it is imported."""


def list_error_classes() -> tuple[type[GatewayError], ...]:
    """Every error class, parents first."""
    classes: list[type[GatewayError]] = [GatewayError]
    for error in classes:
        classes.extend(error.__subclasses__())
    return tuple(classes)


def build_failure(error: GatewayError) -> Failure:
    """The failure that followers and repetitions get for an error."""
    final = isinstance(error, ContentBlocked | UpstreamInvalidRequest | MaxTokens | InvalidHistory)
    attributes = {name: getattr(error, name) for name in _CARRIED if hasattr(error, name)}
    return Failure(code=error.code, final=final, **attributes)


def rebuild_error(failure: Failure) -> GatewayError:
    """The error that a failure stands for; an UpstreamError where this version does not know its code."""
    kinds = {kind.code: kind for kind in reversed(list_error_classes()[1:])}
    kind = kinds.get(failure.code, UpstreamError)
    arguments = {name: getattr(failure, name) for name in signature(kind).parameters if name in _CARRIED}
    error = kind(**arguments)
    carried = {name: getattr(failure, name) for name in _CARRIED if hasattr(error, name)}
    return error.with_attributes(**carried)
