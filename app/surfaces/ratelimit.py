"""RateLimit headers of a caller's budget windows (IETF draft-ietf-httpapi-ratelimit-headers-10, R24).

Recording a window and rendering it are two steps: the ledger knows nothing of headers. Windows in shadow
mode never refuse, so they are not advertised.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.budget import Unit, WindowState

# The largest Integer of a structured field (RFC 9651 section 3.3.1).
_INTEGER_MAX = 999_999_999_999_999

# Quota units. None of ours is in the draft's registry, and leaving the parameter out would mean requests.
_QUOTA_UNITS: dict[Unit, str] = {
    "output_tokens": "output_tokens",
    "total_tokens": "total_tokens",
    "images": "images",
    "usd": "nano_usd",
}


def _tightness(window: WindowState) -> tuple[Fraction, int, str]:
    """Sorts the window that will refuse first to the front: by share left, then by what is left."""
    share = Fraction(window.remaining, window.budget.limit) if window.budget.limit > 0 else Fraction(0)
    return share, window.remaining, window.budget.name


def _integer(value: int) -> int:
    return min(max(0, value), _INTEGER_MAX)


def rate_limit_headers(windows: tuple[WindowState, ...]) -> dict[str, str]:
    """``RateLimit-Policy`` and ``RateLimit`` as structured-field lists, tightest first; empty for no windows.

    ``q`` and ``r`` are in the unit that ``qu`` names (dollars in billionths), ``w`` and ``t`` in seconds;
    ``r`` is never negative and ``t`` never longer than ``w``.
    """
    policies = []
    states = []
    for window in sorted((one for one in windows if one.budget.mode == "enforce"), key=_tightness):
        budget, span = window.budget, window.span
        length_s = -(-(span.end_ms - span.start_ms) // 1000)
        name = f'"{budget.name}"'
        policies.append(f'{name};q={_integer(budget.limit)};w={length_s};qu="{_QUOTA_UNITS[budget.unit]}"')
        states.append(f"{name};r={_integer(window.remaining)};t={min(window.resets_in_s, length_s)}")
    if not states:
        return {}
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}
