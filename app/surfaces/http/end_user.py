"""The end user of a request: a header that every dialect reads, and a field where a dialect has one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain.end_user import NAME_LENGTH_MAX, is_user_name
from app.domain.errors import InvalidRequest, Violation

if TYPE_CHECKING:
    from fastapi import Request

    from app.domain.tenancy import Caller
    from app.generation.order import Order
    from app.surfaces.http.context import Service

_HEADER = "x-flashgate-user"
_FORM = f"1 to {NAME_LENGTH_MAX} printable characters without a space at either end"

END_USER: dict[str, Any] = {
    "name": "X-Flashgate-User",
    "in": "header",
    "required": False,
    "description": (
        "Name of the end user that the request is for, in UTF-8, whose budgets and rates then apply. Only a "
        "keyed hash of it is stored."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX, "examples": ["user-1234"]},
}
"""The header as a parameter of the OpenAPI document."""


def attach_header_user(caller: Caller, request: Request, service: Service) -> Caller:
    """Return the caller with the end user that the header names.

    Raises:
        InvalidRequest: The header is no name, or was sent twice.
    """
    values = request.headers.getlist(_HEADER)
    if not values:
        return caller
    name = values[0].encode("latin-1").decode(errors="replace")
    if len(values) > 1 or "\N{REPLACEMENT CHARACTER}" in name or not is_user_name(name):
        raise InvalidRequest(f"X-Flashgate-User is sent once, with {_FORM}, in UTF-8.")
    return replace(caller, user=service.identify_user(caller.tenant.id, name))


def attach_body_user(order: Order, service: Service, name: str | None, field: str = "user") -> Order:
    """Return the order with the end user that a field of the body names, or with the field's violation."""
    if name is None:
        return order
    place = f"/{field}"
    if not is_user_name(name):
        return _add_violation(order, Violation(place, "invalid_user", f"The name of a user has {_FORM}."))
    caller = order.caller
    user = service.identify_user(caller.tenant.id, name)
    if caller.user not in {None, user}:
        detail = f"{field} and the header X-Flashgate-User name different users; send one of them."
        return _add_violation(order, Violation(place, "user_mismatch", detail))
    return replace(order, caller=replace(caller, user=user))


def _add_violation(order: Order, violation: Violation) -> Order:
    return replace(order, violations=(*order.violations, violation))
