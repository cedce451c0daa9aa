"""Authentication by a gateway key, in any header that clients use for API keys, or by an ID token.

Cloud Run verifies the ID token in ``X-Serverless-Authorization`` if that header is present, else the one in
``Authorization``, and forwards the token without its signature. Only the token that it verified may count as
verified by the platform; a token in the other header is unverified input of the caller.

Identity-Aware Proxy puts its own token in a header of its own. It takes precedence over the token that the
caller sent, and a gateway key takes precedence over both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from app.domain.errors import PermissionDenied, Unauthenticated
from app.domain.tenancy import Caller
from app.surfaces.http.context import get_service
from app.surfaces.http.end_user import attach_header_user

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.surfaces.http.context import IdentityTokens, Service

SCHEMES = (
    HTTPBearer(
        auto_error=False,
        scheme_name="bearer",
        description="A gateway key, or an ID token of a Google account that has a key.",
    ),
    APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="apiKey", description="A gateway key."),
    APIKeyHeader(
        name="x-goog-api-key",
        auto_error=False,
        scheme_name="googApiKey",
        description="A gateway key, in the header of Google's clients.",
    ),
)
_PLATFORM_HEADER = "x-serverless-authorization"
_IAP_HEADER = "x-goog-iap-jwt-assertion"


@dataclass(frozen=True, slots=True)
class _Token:
    """A JSON Web Token, its verifier, and whether the platform verified the header that it came in."""

    text: str
    judge: IdentityTokens
    checked: bool = False


def find_presented_key(request: Request) -> str | None:
    """Return the key of a request. X-API-Key goes first: platforms use Authorization for themselves.

    ``api-key`` is the header of Azure's clients.
    """
    headers = request.headers
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if headers.get(name):
            return headers[name]
    return _parse_bearer(headers.get("authorization", ""))


def _parse_bearer(header: str) -> str | None:
    scheme, _, token = header.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return None


def _find_token(request: Request, presented: str | None, service: Service) -> _Token | None:
    """Return the token of a request if tokens are accepted. A token has two dots, a gateway key none."""
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
    # With two headers of one name, nobody can tell which one the platform verified.
    if presented is not None:
        checked = not platform_headers and [_parse_bearer(header) for header in own_headers] == [presented]
        return _Token(presented, judge, checked)
    text = None
    if platform_headers:
        text = _parse_bearer(platform_headers[0])
    if text is None:
        return None
    return _Token(text, judge, checked=len(platform_headers) == 1)


async def authenticate(request: Request, presented: str | None) -> Caller:
    """Return the caller of a key or a token, without asking the store.

    Raises:
        Unauthenticated: The credential is missing or unknown.
        IdentityUnavailable: It is a token, and Google's keys cannot be fetched.
    """
    service = get_service(request)
    token = _find_token(request, presented, service)
    if token is not None:
        identities = await token.judge.verify(token.text, checked=token.checked)
        caller = service.directory.find_by_identity(identities)
    else:
        caller = None
        if presented:
            caller = service.directory.authenticate(presented)
    if caller is None:
        raise Unauthenticated(_explain_refusal(presented, token))
    request.state.caller = caller
    request.state.tenant, request.state.key = caller.tenant.id, caller.key.id
    return caller


def _explain_refusal(presented: str | None, token: _Token | None) -> str:
    if token is not None:
        return "The ID token is not valid, or its account has no key."
    if presented is None:
        return "Send a gateway key in Authorization: Bearer, X-API-Key or x-goog-api-key."
    return "The key is not valid."


async def authorize(request: Request, scope: str, presented: str | None) -> Caller:
    """Return the caller of a key that has the scope.

    Raises:
        PermissionDenied: The key lacks the scope.
        GatewayError: As ``authenticate``.
    """
    caller = await authenticate(request, presented)
    if not caller.may(scope):
        raise PermissionDenied(f"The key lacks the scope {scope!r}.")
    return caller


def require_scope(scope: str) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that authorizes the caller for a scope."""

    async def authorize_caller(
        request: Request,
        _bearer: Annotated[object, Security(SCHEMES[0])],
        _api_key: Annotated[object, Security(SCHEMES[1])],
        _goog_api_key: Annotated[object, Security(SCHEMES[2])],
    ) -> Caller:
        caller = await authorize(request, scope, find_presented_key(request))
        return attach_header_user(caller, request, get_service(request))

    return authorize_caller


CallerDep = Annotated[Caller, Depends(require_scope("images"))]
