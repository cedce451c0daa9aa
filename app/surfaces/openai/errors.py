"""Errors in the OpenAI dialect: envelope, codes, statuses, and whether SDKs may retry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import Response

from app.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    GatewayError,
    ModelRefused,
    TooManyUsers,
    Unauthenticated,
    UpstreamError,
    ValidationFailed,
)
from app.domain.pointers import split_pointer
from app.domain.repetition import TooManyIdempotencyKeys
from app.surfaces.http.envelope import build_error_headers, render_cost, render_violation, render_would_fit

if TYPE_CHECKING:
    from app.domain.errors import Violation

MODEL_NOT_FOUND: Final = frozenset({"unknown_model", "model_not_allowed"})
"""Violations that OpenAI answers with 404; it does not distinguish the two."""

_INVALID = "invalid_request_error"
_CODES: Final = dict.fromkeys(MODEL_NOT_FOUND, "model_not_found") | {
    "unknown_field": "unknown_parameter",
    "required": "missing_required_parameter",
    "wrong_type": "invalid_type",
}


class Kind(NamedTuple):
    """How OpenAI classifies an error. A code of None stands for the gateway's own code."""

    status: int
    type: str
    code: str | None


_KINDS: Final[dict[type[GatewayError], Kind]] = {
    Unauthenticated: Kind(401, _INVALID, "invalid_api_key"),
    ValidationFailed: Kind(400, _INVALID, None),
    BudgetExceeded: Kind(429, "insufficient_quota", "insufficient_quota"),
    TooManyIdempotencyKeys: Kind(429, "requests", None),
    TooManyUsers: Kind(429, "requests", None),
    ModelRefused: Kind(400, "image_generation_user_error", None),
    ContentBlocked: Kind(400, "image_generation_user_error", "moderation_blocked"),
}


def classify_error(error: type[GatewayError]) -> Kind:
    """Return status, type and code of an error; errors that OpenAI does not have keep the gateway's code.

    OpenAI does not use 422: every invalid request is 400.
    """
    kind = next((_KINDS[parent] for parent in error.__mro__ if parent in _KINDS), None)
    if kind is not None:
        return kind
    if error.status == 429:
        return Kind(429, "requests", "rate_limit_exceeded")
    if error.status >= 500:
        return Kind(error.status, "server_error", None)
    if error.status == 422:
        return Kind(400, _INVALID, None)
    return Kind(error.status, _INVALID, None)


def should_retry(error: GatewayError) -> bool:
    """Whether an SDK may retry: only if a retry can succeed and nothing was billed.

    The SDKs retry every 408, 409, 429 and 5xx twice unless told otherwise.
    """
    if isinstance(error, BudgetExceeded | TooManyIdempotencyKeys | TooManyUsers) or error.usage is not None:
        return False
    if isinstance(error, UpstreamError) and error.billed != "no":
        return False
    return error.retryable


def render_openai_error(error: GatewayError) -> tuple[int, dict[str, Any]]:
    """Return the status and the members of ``error``: OpenAI's four, and what the gateway adds."""
    kind = classify_error(type(error))
    status = kind.status
    members: dict[str, Any] = {
        "message": error.detail,
        "type": kind.type,
        "param": None,
        "code": kind.code or error.code,
    }
    if isinstance(error, ValidationFailed):
        # A violation of the model goes first, because only that one changes the status.
        first = min(error.violations, key=lambda item: item.code not in MODEL_NOT_FOUND)
        members["code"] = _CODES.get(first.code, "invalid_value")
        members["param"] = _name_field(first) if first.pointer else None
        if members["code"] == "model_not_found":
            status = 404
        members["message"] = " ".join(f"{_name_field(item)}: {item.detail}" for item in error.violations)
        members["violations"] = [render_violation(item) for item in error.violations]
    if fitting := render_would_fit(error):
        members["would_fit"] = fitting
    if error.usage is not None:
        members["usage"] = {
            "input_tokens": error.usage.input_tokens,
            "output_tokens": error.usage.output_tokens,
            "total_tokens": error.usage.total_tokens,
            **render_cost(error),
        }
    return status, members


def _name_field(item: Violation) -> str:
    """Return the top-level field of a pointer; ``body`` for the whole request."""
    return next(iter(split_pointer(item.pointer)), "body")


def build_openai_response(error: GatewayError, _request_id: str, _path: str) -> Response:
    """Build the response for an error; SDKs expect the request id in a header."""
    status, members = render_openai_error(error)
    headers = build_error_headers(error)
    headers["X-Should-Retry"] = "false"
    if should_retry(error):
        headers["X-Should-Retry"] = "true"
    body = json.dumps({"error": members}).encode()
    return Response(body, status, headers=headers, media_type="application/json")
