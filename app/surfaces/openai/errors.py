"""Errors in the OpenAI dialect: its envelope, its codes, its statuses, and whether its SDKs may retry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import Response

from app.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    GatewayError,
    ModelRefused,
    Unauthenticated,
    UpstreamError,
    ValidationFailed,
)
from app.domain.pointers import split_pointer
from app.domain.repetition import TooManyIdempotencyKeys
from app.surfaces.http.envelope import build_error_headers, render_cost, render_violation

if TYPE_CHECKING:
    from app.domain.errors import Violation

MODEL_NOT_FOUND: Final = frozenset({"unknown_model", "model_not_allowed"})
"""Violations that the original answers with 404, because it does not tell one from the other."""

_INVALID = "invalid_request_error"
_CODES: Final = dict.fromkeys(MODEL_NOT_FOUND, "model_not_found") | {
    "unknown_field": "unknown_parameter",
    "required": "missing_required_parameter",
    "wrong_type": "invalid_type",
}


class Kind(NamedTuple):
    """How the original names an error. A code of None stands for the gateway's own."""

    status: int
    type: str
    code: str | None


_KINDS: Final[dict[type[GatewayError], Kind]] = {
    Unauthenticated: Kind(401, _INVALID, "invalid_api_key"),
    ValidationFailed: Kind(400, _INVALID, None),
    BudgetExceeded: Kind(429, "insufficient_quota", "insufficient_quota"),
    TooManyIdempotencyKeys: Kind(429, "requests", None),
    ModelRefused: Kind(400, "image_generation_user_error", None),
    ContentBlocked: Kind(400, "image_generation_user_error", "moderation_blocked"),
}


def classify_error(error: type[GatewayError]) -> Kind:
    """Status, type and code of an error; what the original does not know keeps the gateway's code.

    The original has no 422: whatever is wrong with a request is 400.
    """
    kind = next((_KINDS[parent] for parent in error.__mro__ if parent in _KINDS), None)
    if kind is not None:
        return kind
    if error.status == 429:
        return Kind(429, "requests", "rate_limit_exceeded")
    if error.status >= 500:
        return Kind(error.status, "server_error", None)
    return Kind(400 if error.status == 422 else error.status, _INVALID, None)


def should_retry(error: GatewayError) -> bool:
    """Whether the SDK may repeat the call by itself: only where that can help and nothing was billed.

    The SDKs repeat every 408, 409, 429 and 5xx twice unless they are told not to.
    """
    if isinstance(error, BudgetExceeded | TooManyIdempotencyKeys) or error.usage is not None:
        return False
    if isinstance(error, UpstreamError) and error.billed != "no":
        return False
    return error.retryable


def render_openai_error(error: GatewayError) -> tuple[int, dict[str, Any]]:
    """The status, and the members of ``error``: ``violations`` and ``usage`` beside the original's four."""
    kind = classify_error(type(error))
    status = kind.status
    members: dict[str, Any] = {
        "message": error.detail,
        "type": kind.type,
        "param": None,
        "code": kind.code or error.code,
    }
    if isinstance(error, ValidationFailed):
        # The model goes first, because it alone decides the status.
        first = min(error.violations, key=lambda item: item.code not in MODEL_NOT_FOUND)
        members["code"] = _CODES.get(first.code, "invalid_value")
        members["param"] = _name_field(first) if first.pointer else None
        status = 404 if members["code"] == "model_not_found" else status
        members["message"] = " ".join(f"{_name_field(item)}: {item.detail}" for item in error.violations)
        members["violations"] = [render_violation(item) for item in error.violations]
    if error.usage is not None:
        members["usage"] = {
            "input_tokens": error.usage.input_tokens,
            "output_tokens": error.usage.output_tokens,
            "total_tokens": error.usage.total_tokens,
            **render_cost(error),
        }
    return status, members


def _name_field(item: Violation) -> str:
    """The field that a pointer leads into; ``body`` for the whole request."""
    return next(iter(split_pointer(item.pointer)), "body")


def build_openai_response(error: GatewayError, _request_id: str, _path: str) -> Response:
    """The whole answer to an error; the request's id is in its header, as the SDKs expect it."""
    status, members = render_openai_error(error)
    headers = build_error_headers(error)
    headers["X-Should-Retry"] = "true" if should_retry(error) else "false"
    body = json.dumps({"error": members}).encode()
    return Response(body, status, headers=headers, media_type="application/json")
