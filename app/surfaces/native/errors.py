"""Errors in the native dialect: problem+json (RFC 9457)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from app.domain.budget import NANO_PER_USD
from app.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    GatewayError,
    MaxCostExceeded,
    RateLimited,
    UpstreamError,
    ValidationFailed,
)
from app.surfaces.http.envelope import build_error_headers, render_cost, render_violation, render_would_fit

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.generation import Usage

PROBLEM_TYPE = "application/problem+json"
INSTANCE_LENGTH_MAX = 200
"""Longest path to echo; the gateway's own paths are shorter."""


def render_problem(error: GatewayError, request_id: str, instance: str = "") -> dict[str, Any]:
    """Return the members of the problem document that apply."""
    body: dict[str, Any] = {
        "type": f"urn:flashgate:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        "retryable": error.retryable,
    }
    if instance:
        body["instance"] = instance[:INSTANCE_LENGTH_MAX]
    if isinstance(error, ValidationFailed):
        body["violations"] = [render_violation(item) for item in error.violations]
    body |= _render_limits(error)
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    if error.usage is not None:
        body["usage"] = _render_usage(error.usage) | render_cost(error)
    upstream = _render_upstream(error)
    if upstream:
        body["upstream"] = upstream
    return body


def _render_limits(error: GatewayError) -> dict[str, Any]:
    """What a budget, a rate or the caller's own limit refuses, and what would be admitted instead."""
    body: dict[str, Any] = {}
    if isinstance(error, BudgetExceeded):
        body["violated_policies"] = [window.budget.name for window in error.refused_by]
        body["refused_by"] = [_render_refusing_window(window) for window in error.refused_by]
    if isinstance(error, RateLimited):
        body["violated_policies"] = [state.limit.name for state in error.refused_by]
    if isinstance(error, MaxCostExceeded):
        body["expected_usd"] = error.expected_usd / NANO_PER_USD
        body["most_usd"] = error.most_usd / NANO_PER_USD
    if fitting := render_would_fit(error):
        body["would_fit"] = fitting
    return body


def _render_refusing_window(window: WindowState) -> dict[str, Any]:
    """Render a window that refused, with billionths converted to dollars."""
    budget, scale = window.budget, window.budget.scale
    ends = datetime.fromtimestamp(window.span.end_ms / 1000, tz=UTC).isoformat().replace("+00:00", "Z")
    return {
        "name": budget.name,
        "unit": budget.unit,
        "asked": window.needed / scale,
        "remaining": window.remaining / scale,
        "limit": budget.limit / scale,
        "resets_at": None if window.endless else ends,
    }


def _render_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "image_tokens": usage.image_output,
        "estimated": usage.estimated,
    }


def _render_upstream(error: GatewayError) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if isinstance(error, ContentBlocked):
        members = {
            "reason": error.reason,
            "support_code": error.support_code,
            "category": error.category,
            "side": error.side,
        }
    if isinstance(error, UpstreamError):
        members = {"status": error.upstream_status, "reason": error.reason, "billed": error.billed}
    return {name: value for name, value in members.items() if value is not None}


def build_problem_response(error: GatewayError, request_id: str, instance: str = "") -> Response:
    """Build the response for an error."""
    body = json.dumps(render_problem(error, request_id, instance), ensure_ascii=False).encode()
    return Response(body, error.status, headers=build_error_headers(error), media_type=PROBLEM_TYPE)
