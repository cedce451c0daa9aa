"""The outcome of a request's calls: what is booked, answered and stored (docs/reliability.md R14).

| a call ended with                        | is booked with                      |
|------------------------------------------|-------------------------------------|
| a picture                                | the usage that Google reported      |
| a refusal that reports usage             | that usage                          |
| a refusal without a report               | its input, or nothing: a policy     |
| a failure that cannot have been billed   | nothing                             |
| a picture without a report of usage      | the table's price of the picture    |
|                                          | and the usual words and thoughts;   |
|                                          | what else its bound had room for is |
|                                          | set aside                           |
| an unknown outcome (time-out, reset)     | what one call is expected to cost,  |
|                                          | and the rest of its worst is set    |
|                                          | aside; or nothing: a policy         |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Literal

from app.domain.bound import compute_unreported, compute_unresolved
from app.domain.budget import NOTHING, Amounts
from app.domain.errors import ContentBlocked, GatewayError, UpstreamError
from app.domain.estimate import compute_input_amounts, compute_settled_amounts
from app.domain.generation import NO_USAGE, ModelAnswer, Notice, Usage
from app.domain.policy import HoldConfig
from app.domain.report import ESTIMATED, STANDARD, Spent, UsagePart, build_spent

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
        spent: ``amounts`` for reports.
        parts: The parts of it that were billed by other tiers than the standard one, or estimated.
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
    spent: Spent | None = None
    parts: tuple[UsagePart, ...] = ()

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
    usage = sum(reported, NO_USAGE)
    booking: Literal["settle", "void", "charge"] = "void"
    if unknown == len(endings):
        booking = "charge"
    elif reported or unknown or blocked:
        booking = "settle"
    guessed = _sum_amounts(NOTHING, *[per_call.amounts] * unknown)
    blocked_amounts = _sum_amounts(NOTHING, *[compute_input_amounts(per_call, card)] * blocked)
    parts = _split_by_tier(endings, card)
    settled = [amounts for _, amounts, _ in parts]
    amounts = _sum_amounts(NOTHING, *settled, guessed, blocked_amounts)
    spent_parts = [UsagePart(tier, build_spent(amounts, usage, 0)) for tier, amounts, usage in parts]
    if unknown or blocked:
        spent_parts.append(UsagePart(ESTIMATED, _estimate_spent(per_call, unknown, blocked, blocked_amounts)))
    spent = reduce(Spent.add, (part.spent for part in spent_parts), Spent(requests=1))
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
        unresolved=_compute_unresolved(endings, card, worst, guessed, unknown)
        if booking == "settle"
        else NOTHING,
        spent=spent,
        parts=tuple(part for part in spent_parts if part.tier != STANDARD),
    )


def _split_by_tier(
    endings: Sequence[ModelAnswer | GatewayError], card: Card
) -> list[tuple[str, Amounts, Usage]]:
    """The reported usage by the tier that it is reported under, with its amounts; each tier has its price."""
    groups: dict[tuple[str, bool], list[ModelAnswer | GatewayError]] = {}
    for ending in endings:
        if ending.usage is not None:
            groups.setdefault((ending.usage.tier, ending.usage.estimated), []).append(ending)
    split = []
    for (tier, estimated), group in groups.items():
        usage = sum((each.usage for each in group if each.usage is not None), NO_USAGE)
        pictures = sum(len(each.pictures) for each in group if isinstance(each, ModelAnswer))
        name = ESTIMATED if estimated else tier or STANDARD
        split.append((name, compute_settled_amounts(card, usage, pictures), usage))
    return split


def _estimate_spent(per_call: Estimate, unknown: int, blocked: int, blocked_amounts: Amounts) -> Spent:
    """The row of calls without a report: an estimate of the unknown ones, the input of the blocked ones."""
    calls = unknown + blocked
    return Spent(
        image_tokens=unknown * per_call.image_output,
        total_tokens=unknown * per_call.total_tokens + blocked_amounts.total_tokens,
        images=unknown * per_call.images,
        usd=unknown * per_call.usd + blocked_amounts.usd,
        text_input=calls * (per_call.input_tokens - per_call.image_input),
        image_input=calls * per_call.image_input,
        text_output=unknown * per_call.text_output,
        search_queries=unknown * per_call.search_queries,
    )


def _compute_unresolved(
    endings: Sequence[ModelAnswer | GatewayError], card: Card, worst: Amounts, guessed: Amounts, unknown: int
) -> Amounts:
    """What to set aside for calls of unknown outcome, and for words of answers that did not report them."""
    per_call = Amounts(*(-(-amount // len(endings)) for amount in worst))
    unreported = [
        compute_unreported(per_call, compute_settled_amounts(card, each.usage, len(each.pictures)), card)
        for each in endings
        if isinstance(each, ModelAnswer) and not each.reported
    ]
    return _sum_amounts(compute_unresolved(worst, guessed, unknown, len(endings)), *unreported)


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
