"""Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header-06): a caller's name for one request."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain.errors import InvalidRequest
from app.generation.order import IdempotencyKey

if TYPE_CHECKING:
    from fastapi import Request

    from app.generation.order import Order

KEY_LENGTH_MAX = 255

# A structured-field string (RFC 9651 section 3.3.3), or the bare word that most clients send.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-+\--:<-~]+")

IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Names this request for 24 hours: a repetition with the same key is answered with the same result "
        "and never paid again. A new key is a new order, which is served from the cache only where the "
        "request itself says `cache: use` or `Cache-Control: max-age`. In quotes, as a structured-field "
        "string, or as a bare word such as a UUID."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX + 2},
    "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}
"""The header as a parameter of the OpenAPI document."""


def attach_idempotency_key(order: Order, request: Request, route: str) -> Order:
    """The order under the caller's idempotency key, if there is one. ``route`` is what the key counts for.

    Raises:
        InvalidRequest: The key cannot be read, or was sent twice.
    """
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return order
    text = sent[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = text
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    if len(sent) > 1 or not key or len(key) > KEY_LENGTH_MAX or not (quoted or _BARE.fullmatch(text)):
        raise InvalidRequest(
            f"Idempotency-Key is sent once: 1 to {KEY_LENGTH_MAX} ASCII characters in quotes, or a bare word."
        )
    return replace(order, idempotency=IdempotencyKey(key, route))
