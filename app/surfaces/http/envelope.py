"""What every dialect's error answers have in common: the headers, and the shape of what renders them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from starlette.responses import Response

from app.domain.budget import NANO_PER_USD
from app.domain.errors import (
    GatewayError,
    Violation,
)
from app.domain.repetition import ResultGone
from app.surfaces.http.ratelimit import build_rate_limit_headers

Envelope: TypeAlias = Callable[[GatewayError, str, str], Response]
"""Makes the whole answer of an error, the request's id and its path."""


def build_error_headers(error: GatewayError) -> dict[str, str]:
    """Retry-After, WWW-Authenticate, and the caller's windows and rates where they were seen."""
    headers = dict(build_rate_limit_headers(error.windows, error.rates))
    if error.replayed:
        headers["Idempotency-Replayed"] = "true"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="flashgate"'
    return headers


def render_cost(error: GatewayError) -> dict[str, float]:
    """The dollars beside the tokens of an error, where they are known."""
    spent = error.spent if isinstance(error, ResultGone) else None
    return {} if spent is None else {"cost_usd": spent.usd / NANO_PER_USD}


def render_violation(item: Violation) -> dict[str, Any]:
    """A violation as JSON has it, the same in every dialect that has room for it."""
    members: dict[str, Any] = {"pointer": item.pointer, "code": item.code, "detail": item.detail}
    if item.allowed is not None:
        members["allowed"] = list(item.allowed)
    return members
