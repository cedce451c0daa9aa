"""How much an answer can cost at most: the bound on output that each call is sent with, and what it allows.

The upstream stops at ``maxOutputTokens``, so a hold for everything that fits below it is never too small. The
tight bound leaves room for the picture that was asked for and for the usual words and thoughts; more generous
ones cut no answer off, and are chosen where the budget has room for many such holds
(docs/decisions/0052-output-is-bounded-by-what-is-sent.md).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from app.domain.budget import NOTHING, Amounts
from app.domain.estimate import (
    WouldFit,
    compute_output_tokens_per_call,
    count_search_queries,
    estimate,
    get_query_price,
    sum_prices,
)

if TYPE_CHECKING:
    from app.domain.allowance import TenantAllowances
    from app.domain.budget import WindowState
    from app.domain.card import Card
    from app.domain.generation import ModelAnswer
    from app.domain.request import GenerationRequest

Tail = Literal["serve_one", "refuse"]
"""The last of a budget: one call whose expected cost fits, or none whose worst does not."""
BoundRule = Literal["adaptive", "required", "off"]
"""Whether calls are sent with a bound: unless too many answers are cut off, always, or never."""

CALLS_LOOKED_AT: Final = 100
CALLS_ENOUGH: Final = 20
CUT_PERCENT_MAX: Final = 5
OFF_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on the output of each call of a request.

    Attributes:
        tokens: What is sent as ``maxOutputTokens``; 0 where none is.
        worst: What all calls under it can cost together at most.
    """

    tokens: int
    worst: Amounts


NO_BOUND: Final = Bound(0, NOTHING)


@lru_cache(maxsize=4096)
def compute_most_image_tokens(sizes: frozenset[int], bound: int) -> int:
    """The greatest sum of table prices, each any number of times, that is not above the bound."""
    sums = 1  # bit n is set where n is such a sum
    for size in sizes:
        step = size
        while step <= bound:
            sums |= sums << step
            step *= 2
    return (sums & ((2 << bound) - 1)).bit_length() - 1


def count_most_images(card: Card, bound: int) -> int:
    """The most pictures, of whatever size, that one answer within the bound can hold."""
    return bound // min(size.tokens for size in card.image_sizes.values())


def build_bounds(
    request: GenerationRequest, card: Card, allowances: TenantAllowances | None, expected: Amounts
) -> tuple[Bound, ...]:
    """The bounds that a valid, normalised request may be sent with: the tight one, then each twice as wide.

    The last is the caller's own ``max_output_tokens``, or the card's.

    Args:
        request: Normalised.
        card: The model's.
        allowances: Learned allowances for words and thoughts; None for the card's alone.
        expected: The request's estimate, which is never more than the worst.
    """
    top = min(request.max_output_tokens or card.tokens.output_max, card.tokens.output_max)
    steps = [compute_output_tokens_per_call(request, card, allowances)]
    while steps[-1] < top:
        steps.append(min(2 * steps[-1], top))
    # Whatever the tokenizer does, a byte is at most a token.
    read = estimate(request, card, allowances, strict=True).input_tokens
    return tuple(Bound(tokens, _compute_worst(request, card, read, expected, tokens)) for tokens in steps)


def _compute_worst(
    request: GenerationRequest, card: Card, read: int, expected: Amounts, bound: int
) -> Amounts:
    """What ``n`` answers that use up their bound cost, in each unit on its own.

    Args:
        request: What is asked.
        card: The model's.
        read: Input tokens of all calls, at most.
        expected: What is never more than the worst.
        bound: Output tokens of each call.
    """
    n, prices = request.n, card.get_dearest_prices(request.service_tier)
    pictures = compute_most_image_tokens(frozenset(size.tokens for size in card.image_sizes.values()), bound)
    usd = max(
        sum_prices(
            (count_search_queries(request, card), get_query_price(card)),
            (read, prices.input),
            (n * drawn, prices.image_output),
            (n * (bound - drawn), prices.text_output),
        )
        for drawn in (0, pictures)
    )
    worst = Amounts(n * pictures, read + n * bound, n * count_most_images(card, bound), usd, n * bound)
    return Amounts(*map(max, worst, expected))


def is_above(bound: int | None, card: Card, answer: ModelAnswer) -> bool:
    """Whether an answer is more than the bound that it was asked with allows."""
    if bound is None:
        return False
    over = answer.usage.output_tokens > bound and not answer.usage.estimated
    return over or len(answer.pictures) > count_most_images(card, bound)


def compute_unresolved(worst: Amounts, booked: Amounts, unknown: int, n: int) -> Amounts:
    """What to set aside beside the expected that was booked, for calls whose outcome nobody knows.

    Args:
        worst: Of all ``n`` calls of the request.
        booked: For the unknown calls together.
        unknown: How many of them there are.
        n: How many calls were made.
    """
    return Amounts(
        *(max(0, -(-most * unknown // n) - known) for most, known in zip(worst, booked, strict=True))
    )


def compute_unreported(worst: Amounts, booked: Amounts, card: Card) -> Amounts:
    """What to set aside for an answer that did not report its tokens: words up to its bound.

    Its pictures are known, because they have been received.

    Args:
        worst: Of one call.
        booked: For this one.
        card: The model's.
    """
    prices = card.prices_usd_per_million
    words = max(0, worst.all_output_tokens - booked.all_output_tokens)
    total = max(0, worst.total_tokens - booked.total_tokens)
    usd = sum_prices((words, prices.text_output), (max(0, total - words), prices.input))
    return Amounts(total_tokens=total, usd=usd, all_output_tokens=words)


def compute_needed_amounts(
    request: GenerationRequest, card: Card, allowances: TenantAllowances | None, *, strict: bool, tail: Tail
) -> Amounts:
    """What must be left of every budget for the request to be admitted."""
    expected = estimate(request, card, allowances, strict=strict).amounts
    if tail == "serve_one":
        return expected
    return build_bounds(request, card, allowances, expected)[0].worst


def would_fit(
    request: GenerationRequest,
    card: Card,
    windows: tuple[WindowState, ...],
    allowances: TenantAllowances | None = None,
    *,
    strict: bool = False,
    tail: Tail = "serve_one",
) -> WouldFit:
    """The largest size of as many pictures, and the most pictures of this size, that would be admitted."""

    def fits(other: GenerationRequest) -> bool:
        amounts = compute_needed_amounts(other, card, allowances, strict=strict, tail=tail)
        return not any(
            window.budget.mode == "enforce" and getattr(amounts, window.budget.unit) > window.remaining
            for window in windows
        )

    tokens = card.image_tokens(request.image_size or card.image_size_default)
    smaller = sorted(
        (size for size in card.image_sizes if card.image_tokens(size) <= tokens), key=card.image_tokens
    )
    sizes = [size for size in smaller if fits(replace(request, image_size=size))]
    counts = [n for n in range(1, request.n + 1) if fits(replace(request, n=n))]
    return WouldFit(sizes[-1] if sizes else None, counts[-1] if counts else 0)


class BoundSwitch:
    """Whether calls to a model are sent with a bound at a thinking level.

    If more than CUT_PERCENT_MAX of the last CALLS_LOOKED_AT answers were cut off by a bound, and at least
    CALLS_ENOUGH are known, it is off for OFF_S; then it is tried again. As soon as a second tenant has been
    served, the answers must be several tenants': none may switch the bound off by its own prompts. Kept in
    this process alone.
    """

    def __init__(self, rule: BoundRule = "adaptive") -> None:
        self._rule = rule
        self._cut: dict[
            tuple[str, str], deque[str | None]
        ] = {}  # whose answer was cut off, None for a whole one
        self._tenants: set[str] = set()  # the first two
        self._off_until: dict[tuple[str, str], float] = {}

    def is_on(self, card: Card, level: str, now_s: float) -> bool:
        """Whether to send a bound at this moment, in seconds of a clock that never goes back."""
        return self._rule != "off" and now_s >= self._off_until.get((card.id, level), now_s)

    def observe(self, tenant_id: str, card: Card, level: str, now_s: float, *, cut: bool) -> bool:
        """Count an answer to a call that was sent with a bound. Returns True if that switches it off."""
        if self._rule != "adaptive" or not self.is_on(card, level, now_s):
            return False
        if len(self._tenants) < 2:
            self._tenants.add(tenant_id)
        seen = self._cut.setdefault((card.id, level), deque(maxlen=CALLS_LOOKED_AT))
        seen.append(tenant_id if cut else None)
        whose = [each for each in seen if each is not None]
        if len(seen) < CALLS_ENOUGH or len(whose) * 100 <= CUT_PERCENT_MAX * len(seen):
            return False
        if len(set(whose)) < len(self._tenants):
            return False
        self._off_until[card.id, level] = now_s + OFF_S
        seen.clear()
        return True
