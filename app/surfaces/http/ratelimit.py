"""RateLimit headers of budget windows and rates (IETF draft-ietf-httpapi-ratelimit-headers-10).

Windows in shadow mode never refuse a request, so they are not advertised.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from app.domain.rate import MINUTE_S

if TYPE_CHECKING:
    from app.domain.budget import Unit, WindowState
    from app.domain.rate import RateState

# The largest Integer of a structured field (RFC 9651 section 3.3.1).
_INTEGER_MAX = 999_999_999_999_999


def _name_quota_unit(unit: Unit) -> str:
    """Return ``qu`` of a budget. It is not in the draft's registry, but the default would be requests."""
    if unit == "usd":
        return "nano_usd"
    return unit


def _rank_window(window: WindowState) -> tuple[Fraction, int, str]:
    """Sort key: the window that will refuse first, by the share left and then by the amount left."""
    share = Fraction(window.remaining, window.budget.limit) if window.budget.limit > 0 else Fraction(0)
    return share, window.remaining, window.budget.name


def _clamp_integer(value: int) -> int:
    return min(max(0, value), _INTEGER_MAX)


def _render_rate(state: RateState) -> tuple[str, str]:
    """Render the policy and the state of one rate."""
    limit, name = state.limit, f'"{state.limit.name}"'
    if limit.kind == "concurrent":
        return f'{name};q={limit.limit};qu="concurrent-requests"', f"{name};r={state.remaining}"
    full_s = min(MINUTE_S, -(-state.full_in_ms // 1000))
    left = min(limit.limit, state.remaining)
    return f'{name};q={limit.limit};w={MINUTE_S};qu="requests"', f"{name};r={left};t={full_s}"


def build_rate_limit_headers(
    windows: tuple[WindowState, ...], rates: tuple[RateState, ...] = ()
) -> dict[str, str]:
    """Build ``RateLimit-Policy`` and ``RateLimit`` as structured-field lists; empty without limits.

    Budgets come first, the tightest at the front; rates follow, because they recover soon. ``q`` and ``r``
    are in the unit ``qu`` (dollars in billionths), ``w`` and ``t`` in seconds; ``r`` is never negative and
    ``t`` never longer than ``w``. Windows that never reset have neither.
    """
    policies = []
    states = []
    for window in sorted((item for item in windows if item.budget.mode == "enforce"), key=_rank_window):
        budget, span = window.budget, window.span
        length_s = -(-(span.end_ms - span.start_ms) // 1000)
        name = f'"{budget.name}"'
        length = ""
        if not window.endless:
            length = f";w={length_s}"
        reset = ""
        if not window.endless:
            reset = f";t={min(window.resets_in_s, length_s)}"
        policies.append(
            f'{name};q={_clamp_integer(budget.limit)}{length};qu="{_name_quota_unit(budget.unit)}"'
        )
        states.append(f"{name};r={_clamp_integer(window.remaining)}{reset}")
    for rate in rates:
        policy, state = _render_rate(rate)
        policies.append(policy)
        states.append(state)
    if not states:
        return {}
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}
