"""Who is calling: a gateway key in any of the headers that clients use for theirs, or an ID token.

On Cloud Run the platform's own door reads an ID token from ``X-Serverless-Authorization`` if that is there,
else from ``Authorization``, and passes the one that it has read without its signature. Only that one can
therefore count as checked by the platform; what stands in the other is the caller's own word.

Identity-Aware Proxy asserts whom it has let in by a token of its own, in a header of its own, which goes
before whatever the caller showed to the proxy; a gateway key goes before both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from app.domain.errors import PermissionDenied, Unauthenticated
from app.domain.tenancy import Caller
from app.surfaces.http.context import get_service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.surfaces.http.context import IdentityTokens, Service

SCHEMES = (
    HTTPBearer(
        auto_error=False,
        scheme_name="bearer",
        description="A gateway key, or an ID token of a Google account that the deployment knows.",
    ),
    APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="apiKey", description="A gateway key."),
    APIKeyHeader(
        name="x-goog-api-key",
        auto_error=False,
        scheme_name="googApiKey",
        description="As Google's clients send it.",
    ),
)
_PLATFORM_HEADER = "x-serverless-authorization"
_IAP_HEADER = "x-goog-iap-jwt-assertion"


@dataclass(frozen=True, slots=True)
class _Token:
    """A JSON Web Token as it was shown, who judges it, and whether the platform has read its header."""

    text: str
    judge: IdentityTokens
    checked: bool = False


def find_presented_key(request: Request) -> str | None:
    """The key that a request shows. X-API-Key goes first: a platform may use Authorization for itself."""
    headers = request.headers
    for name in ("x-api-key", "x-goog-api-key"):
        if headers.get(name):
            return headers[name]
    return _parse_bearer(headers.get("authorization", ""))


def _parse_bearer(header: str) -> str | None:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _find_token(request: Request, presented: str | None, service: Service) -> _Token | None:
    """The token that a request shows, where any are taken; no gateway key holds a dot, every token two."""
    if presented is not None and presented.count(".") != 2:
        return None
    assertion = request.headers.get(_IAP_HEADER)
    if assertion and service.iap_tokens is not None:
        return _Token(assertion, service.iap_tokens)
    judge = service.identity_tokens
    if judge is None:
        return None
    platform_headers, own_headers = (
        request.headers.getlist(name) for name in (_PLATFORM_HEADER, "authorization")
    )
    # Of two headers of one name nobody knows which the platform has read.
    if presented is not None:
        checked = not platform_headers and [_parse_bearer(header) for header in own_headers] == [presented]
        return _Token(presented, judge, checked)
    text = _parse_bearer(platform_headers[0]) if platform_headers else None
    return None if text is None else _Token(text, judge, checked=len(platform_headers) == 1)


async def authenticate(request: Request, presented: str | None) -> Caller:
    """The caller of a key or a token; never asks the store.

    Raises:
        Unauthenticated: There is none, or it is not known.
        IdentityUnavailable: It is a token, and Google's keys are not to be had.
    """
    service = get_service(request)
    token = _find_token(request, presented, service)
    if token is not None:
        identities = await token.judge.verify(token.text, checked=token.checked)
        caller = service.directory.find_by_identity(identities)
    else:
        caller = service.directory.authenticate(presented) if presented else None
    if caller is None:
        raise Unauthenticated(_explain_refusal(presented, token))
    request.state.caller = caller
    request.state.tenant, request.state.key = caller.tenant.id, caller.key.id
    return caller


def _explain_refusal(presented: str | None, token: _Token | None) -> str:
    if token is not None:
        return "This ID token does not hold here, or its account is not known."
    if presented is None:
        return "Send a gateway key in Authorization: Bearer, X-API-Key or x-goog-api-key."
    return "This key is not known here."


async def authorize(request: Request, scope: str, presented: str | None) -> Caller:
    """The caller of a key if it carries the scope.

    Raises:
        PermissionDenied: It does not.
        GatewayError: What ``authenticate`` raises.
    """
    caller = await authenticate(request, presented)
    if not caller.may(scope):
        raise PermissionDenied(f"This key does not carry the scope {scope!r}.")
    return caller


def require_scope(scope: str) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller if the key carries the scope, and refuses otherwise."""

    async def authorize_caller(
        request: Request,
        _bearer: Annotated[object, Security(SCHEMES[0])],
        _api_key: Annotated[object, Security(SCHEMES[1])],
        _goog_api_key: Annotated[object, Security(SCHEMES[2])],
    ) -> Caller:
        return await authorize(request, scope, find_presented_key(request))

    return authorize_caller


CallerDep = Annotated[Caller, Depends(require_scope("images"))]
