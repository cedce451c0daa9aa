"""GatewayError to problem+json (RFC 9457), and every other exception to a GatewayError."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.domain.errors import (
    BudgetExceeded,
    ContentBlocked,
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
    UpstreamError,
    ValidationFailed,
    Violation,
)
from app.surfaces.context import service_of
from app.surfaces.ratelimit import rate_limit_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

    from app.domain.generation import Usage

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
_BY_STATUS: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed, 400: InvalidRequest}


def problem(error: GatewayError, request_id: str, instance: str = "") -> dict[str, Any]:
    """The members of the problem document; only those that apply."""
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
        body["instance"] = instance
    if isinstance(error, ValidationFailed):
        body["violations"] = [_violation(item) for item in error.violations]
    if isinstance(error, BudgetExceeded):
        body["violated_policies"] = [window.budget.name for window in error.refused_by]
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    if error.usage is not None:
        body["usage"] = _usage(error.usage)
    upstream = _upstream(error)
    if upstream:
        body["upstream"] = upstream
    return body


def _violation(item: Violation) -> dict[str, Any]:
    members: dict[str, Any] = {"pointer": item.pointer, "code": item.code, "detail": item.detail}
    if item.allowed is not None:
        members["allowed"] = list(item.allowed)
    return members


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "image_output": usage.image_output,
        "estimated": usage.estimated,
    }


def _upstream(error: GatewayError) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if isinstance(error, ContentBlocked):
        known = {"reason": error.reason, "support_code": error.support_code}
    if isinstance(error, UpstreamError):
        known = {"status": error.upstream_status, "reason": error.reason, "billed": error.billed}
    return {name: value for name, value in known.items() if value is not None}


def error_headers(error: GatewayError) -> dict[str, str]:
    """Retry-After, WWW-Authenticate, and the caller's windows where they were seen."""
    headers = dict(rate_limit_headers(error.windows)) if error.windows else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="flashgate"'
    return headers


def problem_response(
    error: GatewayError, request_id: str, instance: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The whole answer to an error."""
    body = json.dumps(problem(error, request_id, instance), ensure_ascii=False).encode()
    return Response(
        body, error.status, headers={**error_headers(error), **(headers or {})}, media_type=PROBLEM_TYPE
    )


def _answer(request: Request, error: GatewayError, headers: Mapping[str, str] | None = None) -> Response:
    """Answer, and leave the outcome where the access log and the metrics look for it."""
    request.state.outcome = error.code
    if isinstance(error, ValidationFailed):
        request.state.violations = tuple(item.code for item in error.violations)
    request_id = getattr(request.state, "request_id", "")
    return problem_response(error, request_id, request.url.path, headers)


async def _with_windows(request: Request, error: GatewayError) -> None:
    """Look up the caller's windows for an error that came before admission, if the store can tell.

    Only what could have spent is worth the look; the answer goes out without these headers otherwise.
    """
    caller = getattr(request.state, "caller", None)
    if caller is None or error.windows or request.method != "POST" or isinstance(error, StoreUnavailable):
        return
    with suppress(StoreUnavailable):
        error.windows = await service_of(request).gateway.budgets(caller)


def install(app: FastAPI) -> None:
    """Make every failure of every route a problem document."""

    async def on_gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)  # noqa: S101 - registered for this class alone
        await _with_windows(request, error)
        return _answer(request, error)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
        known = _BY_STATUS.get(
            error.status_code, InvalidRequest if error.status_code < 500 else InternalError
        )
        return _answer(request, known(), error.headers)

    async def on_request_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
        found = tuple(
            Violation(pointer(item["loc"][1:]), item["type"], item["msg"]) for item in error.errors()
        )
        return _answer(request, ValidationFailed(found))

    async def on_anything(request: Request, error: Exception) -> Response:
        log.error("a request failed by a fault of the gateway", exc_info=error)
        return _answer(request, InternalError())

    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_request_validation)
    app.add_exception_handler(Exception, on_anything)


def pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901) from the steps of a location."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in location)
