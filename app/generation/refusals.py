"""Why a request is refused for its budgets or rates: what it needs, what would fit, and when to come back."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import ROUND_UP
from typing import TYPE_CHECKING

from app.domain.bound import would_fit
from app.domain.budget import Budget, Span, WindowState
from app.domain.errors import BudgetExceeded, MaxCostExceeded, RateLimited
from app.domain.estimate import resolve_size_and_level
from app.domain.explanations import explain_budget, explain_fitting, explain_rate, format_dollars

if TYPE_CHECKING:
    from app.domain.estimate import WouldFit
    from app.domain.rate import RateState
    from app.generation.job import Job

SPREAD_S_MAX = 60


def build_budget_error(job: Job, windows: tuple[WindowState, ...]) -> BudgetExceeded:
    """The error for a job that at least one of the windows refuses."""
    refusing = tuple(window for window in windows if window.refuses)
    sentences = tuple(explain_budget(window, job.caller.tenant.time_zone) for window in refusing)
    fitting, instead = _find_alternative(job, windows, "now")
    never = any(window.never_fits for window in refusing)
    if never and not instead:
        unused = tuple(_reset_window(window) for window in windows)
        _, instead = _find_alternative(job, unused, "once the budget resets")
    waiting_helps = not never and all(window.waits_for_holds or not window.endless for window in refusing)
    wait_s = max(1, *(_compute_wait(job, window) for window in refusing))
    return BudgetExceeded(
        " ".join(filter(None, (*sentences, instead))),
        refusing,
        _spread_wait(wait_s) if waiting_helps else None,
        fitting,
        sentences,
    )


def build_max_cost_error(job: Job) -> MaxCostExceeded | None:
    """The error for a job that can cost more than its caller allows, or None."""
    allowed, most = job.max_cost_usd, job.bounds[0].worst.usd
    if allowed is None or most <= allowed:
        return None
    budget = WindowState(Budget("usd", "lifetime", allowed), 0, 0, Span(0, 1), 0)
    fitting, single = (
        would_fit(request, job.card, (budget,), job.allowances, strict=True, tail="refuse")
        for request in (job.request, replace(job.request, n=1))
    )
    size, _ = resolve_size_and_level(job.request, job.card)
    sentence = (
        f"This request is expected to cost {format_dollars(job.estimate.usd, ROUND_UP)} and can cost "
        f"{format_dollars(most, ROUND_UP)}; max_cost_usd allows {format_dollars(allowed)}."
    )
    instead = explain_fitting(fitting, single, size, job.request.n, "that")
    return MaxCostExceeded(" ".join(filter(None, (sentence, instead))), job.estimate.usd, most, fitting)


def build_rate_error(rates: tuple[RateState, ...]) -> RateLimited:
    """The error for a job that at least one of the rates refuses."""
    refusing = tuple(state for state in rates if state.refused)
    wait_s = _spread_wait(max(1, *(-(-state.retry_in_ms // 1000) for state in refusing)))
    return RateLimited(" ".join(explain_rate(state, wait_s) for state in refusing), refusing, wait_s)


def would_refuse(
    job: Job,
    windows: tuple[WindowState, ...],
    rates: tuple[RateState, ...],
    *,
    cached: bool,
) -> BudgetExceeded | RateLimited | None:
    """The error that the job would meet by what was seen of its windows and rates, or None.

    What is ``cached`` counts as a request and needs nothing else.
    """
    if not cached and any(window.refuses for window in windows):
        return build_budget_error(job, windows)
    full = (state for state in rates if state.remaining < 1)
    refusing = tuple(
        replace(state, refused=True) for state in full if not (cached and state.limit.kind != "requests")
    )
    return build_rate_error(refusing) if refusing else None


def _compute_wait(job: Job, window: WindowState) -> int:
    """Seconds until the window may admit the job: until calls under way are over, or until it resets."""
    if not window.waits_for_holds:
        return window.resets_in_s
    size, _ = resolve_size_and_level(job.request, job.card)
    _, slowest_s = job.card.image_sizes[size].seconds
    return min(-int(-slowest_s // 1), window.resets_in_s)


def _find_alternative(job: Job, windows: tuple[WindowState, ...], when: str) -> tuple[WouldFit, str]:
    """What would be admitted in place of the request, and the sentence about it."""
    tenant = job.caller.tenant
    fitting, single = (
        would_fit(request, job.card, windows, job.allowances, strict=tenant.strict, tail=job.tail)
        for request in (job.request, replace(job.request, n=1))
    )
    size, _ = resolve_size_and_level(job.request, job.card)
    return fitting, explain_fitting(fitting, single, size, job.request.n, when)


def _reset_window(window: WindowState) -> WindowState:
    """The window as it is when it begins again; one that never does keeps what is booked."""
    if window.endless:
        return replace(window, held=0)
    return replace(window, held=0, settled=0, unresolved=0)


def _spread_wait(wait_s: int) -> int:
    """Never less, and up to a tenth or a minute more: not everybody is to come back in the same second."""
    return wait_s + random.randint(0, min(wait_s // 10, SPREAD_S_MAX))
