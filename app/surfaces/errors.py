"""Renders every failure in the dialect of its surface; other exceptions become a GatewayError first."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from app.domain.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
    ValidationFailed,
    Violation,
)
from app.domain.pointers import build_pointer
from app.domain.requirements import classify_kind, describe_requirement, list_choices
from app.resilience.best_effort import best_effort
from app.surfaces.addresses import describe_base, find_dialect
from app.surfaces.gemini.errors import build_google_response
from app.surfaces.http.context import get_service
from app.surfaces.native.errors import build_problem_response
from app.surfaces.openai.errors import build_openai_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

    from app.surfaces.http.envelope import Envelope

log = logging.getLogger(__name__)

ENVELOPES: Final[Mapping[str, Envelope]] = {
    "/gemini": build_google_response,
    "/openai": build_openai_response,
}
"""Envelopes by dialect (see ``find_dialect``); all other paths use problem+json."""

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a caller who disconnected before the request was complete; only logged."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_BY_STATUS: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed, 400: InvalidRequest}


def find_envelope(path: str) -> Envelope:
    """Return the envelope of a path's surface."""
    return ENVELOPES.get(find_dialect(path), build_problem_response)


def build_error_response(
    error: GatewayError, request_id: str, path: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Build the response for an error, in the dialect of the path's surface."""
    response = find_envelope(path)(error, request_id, path)
    response.headers.update(headers or {})
    return response


def _build_response(
    request: Request, error: GatewayError, headers: Mapping[str, str] | None = None
) -> Response:
    """Build the response, and store the outcome for the access log and the metrics."""
    request.state.outcome = error.code
    if isinstance(error, ValidationFailed):
        request.state.violations = tuple(item.code for item in error.violations)
    request_id = getattr(request.state, "request_id", "")
    return build_error_response(error, request_id, request.url.path, headers)


async def _attach_windows(request: Request, error: GatewayError) -> GatewayError:
    """Return the error with the caller's budget windows, if the store is available.

    Errors before admission lack them, and the response would have no RateLimit headers.
    """
    caller = getattr(request.state, "caller", None)
    if caller is None or error.windows or isinstance(error, StoreUnavailable):
        return error
    with best_effort("windows"), suppress(StoreUnavailable):
        return error.with_attributes(windows=await get_service(request).gateway.get_budgets(caller))
    return error


def _build_allow_header(request: Request) -> dict[str, str]:
    """List all methods of the path (RFC 9110 section 10.2.1); the framework lists those of one route."""
    routes = request.app.router.routes
    methods = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    if "GET" in methods and "HEAD" not in methods:
        methods.insert(methods.index("GET") + 1, "HEAD")
    return {"Allow": ", ".join(methods)}


def _is_wrong_address(request: Request, status: int) -> bool:
    """Whether nothing is served there: a POST of another dialect may look like the path of a native GET."""
    native = request.url.path.startswith("/v1/")
    return status == 404 or (status == 405 and native and request.method == "POST")


def install(app: FastAPI) -> None:
    """Register the handlers that render failures in the dialect of their surface."""

    async def on_gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)  # noqa: S101 - registered for this class alone
        return _build_response(request, await _attach_windows(request, error))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
        base = describe_base(request.url.path)
        if base and _is_wrong_address(request, error.status_code):
            return _build_response(request, NotFound(base))
        error_class = _BY_STATUS.get(
            error.status_code, InvalidRequest if error.status_code < 500 else InternalError
        )
        return _build_response(
            request,
            error_class(),
            _build_allow_header(request) if error.status_code == 405 else error.headers,
        )

    async def on_request_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
        violations = tuple(
            Violation(
                build_pointer(*item["loc"][1:]),
                classify_kind(item["type"]),
                f"This {describe_requirement(item['type'], item.get('ctx'))}.",
                list_choices(item["type"], item.get("ctx")),
            )
            for item in error.errors()
        )
        return _build_response(request, ValidationFailed(violations))

    async def on_hang_up(request: Request, _error: Exception) -> Response:
        request.state.outcome = "client_closed_request"
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def on_anything(request: Request, error: Exception) -> Response:
        log.error("a request failed with an unexpected error", exc_info=error)
        return _build_response(request, InternalError())

    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_request_validation)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(Exception, on_anything)
