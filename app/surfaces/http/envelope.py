"""Common parts of error responses in all dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from starlette.responses import Response

from app.domain.budget import NANO_PER_USD
from app.domain.errors import (
    BudgetExceeded,
    GatewayError,
    MaxCostExceeded,
    UnsupportedContentEncoding,
    Violation,
)
from app.domain.repetition import ResultGone
from app.media.inflating import CODINGS
from app.surfaces.http.ratelimit import build_rate_limit_headers

Envelope: TypeAlias = Callable[[GatewayError, str, str], Response]
"""Builds the response from an error, the request id and the path."""


def build_error_headers(error: GatewayError) -> dict[str, str]:
    """Build Retry-After, WWW-Authenticate and, if windows or rates are known, the RateLimit headers."""
    headers = dict(build_rate_limit_headers(error.windows, error.rates))
    if error.replayed:
        headers["Idempotency-Replayed"] = "true"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, UnsupportedContentEncoding):
        headers["Accept-Encoding"] = ", ".join(CODINGS)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="flashgate"'
    return headers


def render_cost(error: GatewayError) -> dict[str, float]:
    """Return the cost of an error in dollars, if it is known."""
    spent = None
    if isinstance(error, ResultGone):
        spent = error.spent
    if spent is None:
        return {}
    return {"cost_usd": spent.usd / NANO_PER_USD}


def render_would_fit(error: GatewayError) -> dict[str, str | int | None]:
    """Return the largest size and number that would be admitted; empty if that was not computed."""
    if not isinstance(error, BudgetExceeded | MaxCostExceeded) or error.would_fit is None:
        return {}
    return {"image_size": error.would_fit.image_size, "n": error.would_fit.n}


def render_violation(item: Violation) -> dict[str, Any]:
    """Return the JSON members of a violation, the same in every dialect."""
    members: dict[str, Any] = {"pointer": item.pointer, "code": item.code, "detail": item.detail}
    if item.allowed is not None:
        members["allowed"] = list(item.allowed)
    return members
