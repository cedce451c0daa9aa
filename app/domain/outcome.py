"""The outcome of a request's calls: what is booked, answered and stored (docs/reliability.md R14).

| a call ended with                        | is booked with                      |
|------------------------------------------|-------------------------------------|
| a picture                                | the usage that Google reported      |
| a refusal that reports usage             | that usage                          |
| a refusal without a report               | its input, or nothing: a policy     |
| a failure that cannot have been billed   | nothing                             |
| an unknown outcome (time-out, reset)     | what one call is expected to cost,  |
|                                          | and the rest of its worst is set    |
|                                          | aside; or nothing: a policy         |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.domain.bound import compute_unresolved
from app.domain.budget import NOTHING, Amounts
from app.domain.errors import ContentBlocked, GatewayError, UpstreamError
from app.domain.estimate import compute_input_amounts, compute_settled_amounts
from app.domain.generation import ModelAnswer, Notice, Usage
from app.domain.policy import HoldConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.card import Card
    from app.domain.estimate import Estimate
    from app.domain.generation import Picture

COMPLETE = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED", ""})


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request's calls together.

    Attributes:
        booking: How the hold ends: ``settle`` with ``amounts``, ``void``, or ``charge`` at the estimate.
        usage: The usage reported by all calls together.
        answers: The answers with pictures, in order.
        error: The error for the caller where nothing was delivered, else None.
        keep: Whether the result may be cached and shared: complete, and every call delivered.
        ambiguous: Whether Google may have charged for a call that reported nothing.
        unresolved: On ``settle``, what to set aside beside ``amounts`` for calls of unknown outcome.
    """

    booking: Literal["settle", "void", "charge"]
    amounts: Amounts
    usage: Usage
    answers: tuple[ModelAnswer, ...]
    error: GatewayError | None
    keep: bool
    notices: tuple[Notice, ...] = ()
    ambiguous: bool = False
    unresolved: Amounts = NOTHING

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The delivered pictures, in order."""
        return tuple(picture for answer in self.answers for picture in answer.pictures)

    @property
    def interim(self) -> tuple[Picture, ...]:
        """Pictures of thoughts, in order."""
        return tuple(picture for answer in self.answers for picture in answer.interim)


def compute_outcome(
    endings: Sequence[ModelAnswer | GatewayError],
    card: Card,
    per_call: Estimate,
    config: HoldConfig | None = None,
    worst: Amounts = NOTHING,
) -> Outcome:
    """Combine the endings of one request's calls.

    Args:
        endings: An answer or an error for each call; at least one.
        card: The model's card.
        per_call: The estimate of one call.
        config: What to book where Google's charge is unknown.
        worst: The most that all calls together can cost.
    """
    config = config or HoldConfig()
    answers = tuple(item for item in endings if isinstance(item, ModelAnswer))
    errors = [item for item in endings if isinstance(item, GatewayError)]
    reported = [item.usage for item in endings if item.usage is not None]
    silent = [error for error in errors if error.usage is None]
    unknown = blocked = 0
    if config.unknown_outcome == "charge":
        unknown = sum(map(_may_be_billed, silent))
    if config.blocked_charge == "input":
        blocked = sum(isinstance(error, ContentBlocked) for error in silent)
    usage = sum(reported, Usage())
    booking: Literal["settle", "void", "charge"] = "void"
    if unknown == len(endings):
        booking = "charge"
    elif reported or unknown or blocked:
        booking = "settle"
    pictures = sum(len(answer.pictures) for answer in answers)
    by_tier = {
        tier: sum((each for each in reported if each.tier == tier), Usage())
        for tier in {each.tier for each in reported}
    }
    guessed = _sum_amounts(NOTHING, *[per_call.amounts] * unknown)
    amounts = _sum_amounts(
        Amounts(images=pictures),
        *(compute_settled_amounts(card, each, 0) for each in by_tier.values()),
        guessed,
        *[compute_input_amounts(per_call, card)] * blocked,
    )
    error: GatewayError | None = None
    if not answers:
        error = _select_error(errors, usage if reported else None)
    keep = not errors and all(answer.finish_reason in COMPLETE for answer in answers)
    notices: tuple[Notice, ...] = ()
    if answers and errors:
        missing = f"{len(errors)} of {len(endings)} pictures failed: {errors[0].code}."
        notices = (Notice("partial_result", missing),)
    return Outcome(
        booking,
        amounts,
        usage,
        answers,
        error,
        keep,
        notices,
        ambiguous=any(map(_may_be_billed, silent)),
        unresolved=compute_unresolved(worst, guessed, unknown, len(endings))
        if booking == "settle"
        else NOTHING,
    )


def build_charged_outcome(endings: Sequence[ModelAnswer | GatewayError], estimated: Amounts) -> Outcome:
    """The outcome where usage cannot be added up: the estimate is charged, pictures are delivered."""
    answers = tuple(item for item in endings if isinstance(item, ModelAnswer))
    errors = [item for item in endings if isinstance(item, GatewayError)]
    error = None if answers else errors[0]
    return Outcome("charge", estimated, Usage(), answers, error, keep=False, ambiguous=True)


def _sum_amounts(*parts: Amounts) -> Amounts:
    return Amounts(*map(sum, zip(*parts, strict=True)))


def _may_be_billed(error: GatewayError) -> bool:
    return isinstance(error, UpstreamError) and error.billed != "no"


def _select_error(errors: Sequence[GatewayError], usage: Usage | None) -> GatewayError:
    """The first error stands for all, with the usage of all."""
    return errors[0].with_attributes(usage=usage)
