"""Authentication of operators: the key of the environment, and keys with the scope ``admin``."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, Request, Security

from app.surfaces.http.auth import SCHEMES, authorize, find_presented_key
from app.surfaces.http.context import Service, get_service
from app.tenants.administration import Operator

ENVIRONMENT = "environment"


async def require_operator(
    request: Request,
    _bearer: Annotated[object, Security(SCHEMES[0])],
    _api_key: Annotated[object, Security(SCHEMES[1])],
    _goog_api_key: Annotated[object, Security(SCHEMES[2])],
) -> Operator:
    """Return the operator of a request; a dependency that declares the security schemes for OpenAPI."""
    return await authenticate_operator(request)


async def authenticate_operator(request: Request) -> Operator:
    """Return the operator of a request.

    Raises:
        Unauthenticated: The key or ID token is missing or unknown.
        PermissionDenied: The key lacks the scope.
    """
    presented = find_presented_key(request)
    request_id = getattr(request.state, "request_id", "")
    if presented is not None and _is_of_environment(get_service(request), presented):
        return Operator(ENVIRONMENT, request_id)
    caller = await authorize(request, "admin", presented)
    return Operator(f"{caller.tenant.id}/{caller.key.id}", request_id)


def _is_of_environment(service: Service, presented: str) -> bool:
    """Compare hashes, so that timing reveals neither the key nor its length."""
    if service.admin_key is None:
        return False
    shown, expected = (_hash_key(key) for key in (presented, service.admin_key.get_secret_value()))
    return hmac.compare_digest(shown, expected)


def _hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


OperatorDep = Annotated[Operator, Depends(require_operator)]
