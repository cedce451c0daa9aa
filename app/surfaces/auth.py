"""Who is calling: a gateway key in any of the three headers that clients use for theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from app.domain.errors import PermissionDenied, Unauthenticated
from app.domain.tenancy import Caller
from app.surfaces.context import service_of

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES = (
    HTTPBearer(auto_error=False, scheme_name="bearer", description="A gateway key as bearer token."),
    APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="apiKey", description="A gateway key."),
    APIKeyHeader(
        name="x-goog-api-key",
        auto_error=False,
        scheme_name="googApiKey",
        description="As Google's clients send it.",
    ),
)


def presented_key(request: Request) -> str | None:
    """The key that a request shows. X-API-Key goes first: a platform may use Authorization for itself."""
    headers = request.headers
    for name in ("x-api-key", "x-goog-api-key"):
        if headers.get(name):
            return headers[name]
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def authenticated(request: Request, presented: str | None) -> Caller:
    """The caller of a key. Raises Unauthenticated; never asks the store."""
    caller = service_of(request).directory.authenticate(presented) if presented else None
    if caller is None:
        raise Unauthenticated(
            "Send a gateway key in Authorization: Bearer, X-API-Key or x-goog-api-key."
            if presented is None
            else "This key is not known here."
        )
    request.state.caller = caller
    request.state.tenant, request.state.key = caller.tenant.id, caller.key.id
    return caller


def authorised(request: Request, scope: str, presented: str | None) -> Caller:
    """The caller of a key if it carries the scope. Raises Unauthenticated or PermissionDenied."""
    caller = authenticated(request, presented)
    if not caller.may(scope):
        raise PermissionDenied(f"This key does not carry the scope {scope!r}.")
    return caller


def with_scope(scope: str) -> Callable[..., Caller]:
    """A dependency that gives the caller if the key carries the scope, and refuses otherwise."""

    def caller_with_scope(
        request: Request,
        _bearer: Annotated[object, Security(SCHEMES[0])],
        _api_key: Annotated[object, Security(SCHEMES[1])],
        _goog_api_key: Annotated[object, Security(SCHEMES[2])],
    ) -> Caller:
        return authorised(request, scope, presented_key(request))

    return caller_with_scope


CallerDep = Annotated[Caller, Depends(with_scope("images"))]
