"""What the calls of one request came to, and so what is booked, answered and kept (reliability.md R14).

| a call ended with                        | is booked with                      |
|------------------------------------------|-------------------------------------|
| a picture                                | the usage that Google reported      |
| a refusal that reports usage             | that usage                          |
| a failure that cannot have been billed   | nothing                             |
| an unknown outcome (time-out, reset)     | the estimate of one call            |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.domain.budget import Amounts
from app.domain.errors import GatewayError, UpstreamError
from app.domain.estimate import settled_amounts
from app.domain.generation import ModelAnswer, Notice, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.card import Card

COMPLETE = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED", ""})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sum of one request's calls.

    Attributes:
        booking: How the hold ends: ``settle`` with ``amounts``, ``void``, or ``charge`` at the estimate.
        usage: What was reported, all calls together.
        answers: The calls that delivered, in order.
        error: What the caller gets where nothing was delivered, else None.
        keep: Whether the result may be cached and shared: complete, and every call delivered.
    """

    booking: Literal["settle", "void", "charge"]
    amounts: Amounts
    usage: Usage
    answers: tuple[ModelAnswer, ...]
    error: GatewayError | None
    keep: bool
    notices: tuple[Notice, ...] = ()


def outcome_of(
    ended: Sequence[ModelAnswer | GatewayError], card: Card, estimate_per_call: Amounts
) -> Outcome:
    """Add up what the calls of one request came to; there is at least one."""
    answers = tuple(item for item in ended if isinstance(item, ModelAnswer))
    errors = [item for item in ended if isinstance(item, GatewayError)]
    reported = [item.usage for item in ended if item.usage is not None]
    unknown = sum(1 for error in errors if error.usage is None and _may_be_billed(error))
    usage = sum(reported, Usage())
    if unknown == len(ended):
        booking: Literal["settle", "void", "charge"] = "charge"
    else:
        booking = "settle" if reported or unknown else "void"
    pictures = sum(len(answer.pictures) for answer in answers)
    known = settled_amounts(card, usage, pictures)
    amounts = Amounts(*(a + unknown * b for a, b in zip(known, estimate_per_call, strict=True)))
    error = None if answers else _for_caller(errors, usage if reported else None)
    keep = not errors and all(answer.finish_reason in COMPLETE for answer in answers)
    notices: tuple[Notice, ...] = ()
    if answers and errors:
        missing = f"{len(errors)} of {len(ended)} pictures failed: {errors[0].code}."
        notices = (Notice("partial_result", missing),)
    return Outcome(booking, amounts, usage, answers, error, keep, notices)


def _may_be_billed(error: GatewayError) -> bool:
    return isinstance(error, UpstreamError) and error.billed != "no"


def _for_caller(errors: Sequence[GatewayError], usage: Usage | None) -> GatewayError:
    """The first error stands for all, and carries what they cost together."""
    first = errors[0]
    first.usage = usage
    return first
