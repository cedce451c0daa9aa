"""Errors in Google's dialect: ``google.rpc.Status`` as JSON, with the details that clients read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from app.domain.errors import (
    BudgetExceeded,
    GatewayError,
    RateLimited,
    Unauthenticated,
    UnsupportedContentEncoding,
    UpstreamInvalidRequest,
    ValidationFailed,
)
from app.domain.explanations import explain_rate
from app.domain.repetition import ResultGone
from app.surfaces.gemini.fields import format_field_path
from app.surfaces.http.envelope import build_error_headers, render_cost, render_would_fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.domain.budget import WindowState
    from app.domain.errors import Violation
    from app.domain.rate import RateState

PREFIX: Final = "/gemini"
MODEL_NOT_FOUND: Final = frozenset({"unknown_model", "model_not_allowed"})
"""Violations that Google answers with 404; it does not distinguish the two."""

_RPC: Final = "type.googleapis.com/google.rpc."
_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    428: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
# Google does not use these: it answers 400 for bodies that it cannot read, and 500 for failures behind it.
_AS_THE_ORIGINAL: Final[Mapping[int, int]] = {402: 400, 410: 404, 415: 400, 422: 400, 502: 500}
_KEY_INVALID: Final = "API key not valid. Please pass a valid API key."
_UNAUTHENTICATED: Final = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other"
    " valid authentication credential."
)


def is_vertex(path: str) -> bool:
    """Whether a path has the form of Vertex AI, which refuses keys with another status."""
    return "/publishers/" in path or path.startswith(f"{PREFIX}/v1beta1/")


def map_status(error: GatewayError, path: str) -> tuple[int, str]:
    """Return the HTTP status that Google would use, and the name of its ``google.rpc.Code``."""
    if isinstance(error, Unauthenticated) and not is_vertex(path):
        return 400, _STATUSES[400]
    if isinstance(error, ValidationFailed) and any(
        violation.code in MODEL_NOT_FOUND for violation in error.violations
    ):
        return 404, _STATUSES[404]
    status = error.status
    if not isinstance(error, UnsupportedContentEncoding):
        status = _AS_THE_ORIGINAL.get(status, status)
    return status, _STATUSES.get(status, "UNKNOWN")


def render_google_error(error: GatewayError, request_id: str, path: str) -> dict[str, Any]:
    """Return the members of ``error``."""
    code, status = map_status(error, path)
    return {
        "code": code,
        "message": _render_message(error, path),
        "status": status,
        "details": list(_render_details(error, request_id, path)),
    }


def _render_message(error: GatewayError, path: str) -> str:
    if isinstance(error, Unauthenticated):
        if is_vertex(path):
            return _UNAUTHENTICATED
        return _KEY_INVALID
    if isinstance(error, ValidationFailed):
        return "\n".join(
            f"{format_field_path(item.pointer) or 'body'}: {_render_sentence(item)}"
            for item in error.violations
        )
    return error.detail


def _render_sentence(item: Violation) -> str:
    if not item.allowed:
        return item.detail
    return f"{item.detail} Accepted: {', '.join(str(value) for value in item.allowed)}."


def _render_details(error: GatewayError, request_id: str, path: str) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if isinstance(error, ValidationFailed):
        violations = [
            {
                "field": format_field_path(item.pointer),
                "description": _render_sentence(item),
                "reason": item.code.upper(),
            }
            for item in error.violations
        ]
        details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": violations})
    if isinstance(error, BudgetExceeded):
        sentences = error.sentences or (error.detail,) * len(error.refused_by)
        refusals = [_render_budget(*pair) for pair in zip(error.refused_by, sentences, strict=True)]
        details.append({"@type": f"{_RPC}QuotaFailure", "violations": refusals})
    if isinstance(error, RateLimited):
        refusals = [_render_rate(state, error.retry_after_s or 1) for state in error.refused_by]
        details.append({"@type": f"{_RPC}QuotaFailure", "violations": refusals})
    if error.retry_after_s is not None:
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{error.retry_after_s}s"})
    if isinstance(error, Unauthenticated) and not is_vertex(path):
        service = {"service": "generativelanguage.googleapis.com"}
        info = {"reason": "API_KEY_INVALID", "domain": "googleapis.com", "metadata": service}
    else:
        metadata = {"requestId": request_id, **_render_spent(error), **_render_fitting(error)}
        info = {"reason": error.code.upper(), "domain": "flashgate", "metadata": metadata}
    return [*details, {"@type": f"{_RPC}ErrorInfo", **info}]


def _render_spent(error: GatewayError) -> dict[str, str]:
    """Return the cost of a result that is no longer stored; metadata values are strings."""
    if not isinstance(error, ResultGone) or error.usage is None:
        return {}
    tokens = {"inputTokens": str(error.usage.input_tokens), "outputTokens": str(error.usage.output_tokens)}
    dollars = render_cost(error).get("cost_usd")
    if dollars is None:
        return tokens
    return {**tokens, "costUsd": f"{dollars:.9f}"}


def _render_fitting(error: GatewayError) -> dict[str, str]:
    """Return the size that would be admitted now; a call in this dialect draws one picture."""
    fitting = render_would_fit(error)
    size = fitting.get("image_size")
    if not size:
        return {}
    return {"wouldFitImageSize": str(size)}


def _render_budget(window: WindowState, sentence: str) -> dict[str, Any]:
    """Render a budget. Google's values are integers, so dollars are in billionths."""
    budget = window.budget
    return {
        "subject": f"{budget.scope}:{budget.name}",
        "description": sentence,
        "quotaMetric": f"flashgate/{'nano_usd' if budget.unit == 'usd' else budget.unit}",
        "quotaId": budget.name,
        "quotaValue": str(budget.limit),
    }


def _render_rate(state: RateState, retry_after_s: int) -> dict[str, Any]:
    limit = state.limit
    return {
        "subject": f"{limit.scope}:{limit.name}",
        "description": explain_rate(state, retry_after_s),
        "quotaMetric": f"flashgate/{limit.kind}",
        "quotaId": limit.name,
        "quotaValue": str(limit.limit),
    }


def encode_error(error: GatewayError, request_id: str, path: str) -> str:
    """Encode an error: Google's own body if Google refused the caller's request, with one more detail."""
    if isinstance(error, UpstreamInvalidRequest) and error.verbatim:
        return _add_detail(error, request_id)
    return json.dumps({"error": render_google_error(error, request_id, path)})


def _add_detail(error: GatewayError, request_id: str) -> str:
    """Return Google's body with a detail that names the files of the request.

    Google often says no more than "contents", and with 14 images nobody knows which of them it means.
    """
    with suppress(ValueError, TypeError, KeyError):
        body = json.loads(error.verbatim)
        details = body["error"].setdefault("details", [])
        metadata = {"requestId": request_id, "explanation": error.detail}
        info = {"reason": error.code.upper(), "domain": "flashgate", "metadata": metadata}
        body["error"]["details"] = [*details, {"@type": f"{_RPC}ErrorInfo", **info}]
        return json.dumps(body)
    return error.verbatim


def build_google_response(error: GatewayError, request_id: str, path: str) -> Response:
    """Build the response for an error."""
    code, _ = map_status(error, path)
    headers = build_error_headers(error)
    if code != 401:
        headers.pop("WWW-Authenticate", None)
    body = encode_error(error, request_id, path).encode()
    return Response(body, code, headers=headers, media_type="application/json")
