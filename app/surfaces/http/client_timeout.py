"""The caller's timeout, from the headers of its request (docs/reliability.md R48)."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from app.domain.errors import InvalidRequest
from app.domain.policy import CALL_S_MIN
from app.generation.order import ClientTimeout

if TYPE_CHECKING:
    from fastapi import Request

_SECONDS = re.compile(r"(\d{1,7}(?:\.\d{1,9})?)", re.ASCII)
_GRPC = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)
_GRPC_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

REQUEST_TIMEOUT: dict[str, Any] = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": (
        "Seconds for which the caller waits, from the arrival of the request, queues included. If less than "
        "10 are left, the model is not called: the cache serves the request, or it ends with 504 at no "
        "cost. After a call it ends with 504 and `upstream.billed`, and the picture goes to the cache or "
        "to a retry with the same `Idempotency-Key`. `grpc-timeout` does the same."
    ),
    "schema": {
        "type": "number",
        "minimum": CALL_S_MIN,
        "exclusiveMaximum": 10_000_000,
        "examples": [60],
    },
    "example": 60,
}
"""The header as a parameter of the OpenAPI document."""


def read_client_timeout(request: Request) -> ClientTimeout | None:
    """Return the shorter of ``X-Request-Timeout`` and ``grpc-timeout``, or None.

    The timeout starts with this call, so it must come before the body is read.

    Raises:
        InvalidRequest: A header is malformed.
    """
    timeouts = [
        timeout
        for timeout in (_read_request_timeout(request), _read_grpc_timeout(request))
        if timeout is not None
    ]
    return min(timeouts, key=lambda timeout: timeout.seconds, default=None)


def _read_request_timeout(request: Request) -> ClientTimeout | None:
    expected = "X-Request-Timeout must be a number of seconds, such as 60 or 12.5."
    match = _match_header(request, "X-Request-Timeout", _SECONDS, expected)
    return match and ClientTimeout(float(match[1]), time.monotonic(), "X-Request-Timeout")


def _read_grpc_timeout(request: Request) -> ClientTimeout | None:
    expected = "grpc-timeout must be a number of at most 8 digits and a unit: H, M, S, m, u or n."
    match = _match_header(request, "grpc-timeout", _GRPC, expected)
    return match and ClientTimeout(int(match[1]) * _GRPC_UNITS_S[match[2]], time.monotonic(), "grpc-timeout")


def _match_header(
    request: Request, name: str, pattern: re.Pattern[str], expected: str
) -> re.Match[str] | None:
    """Match a header, or return None if it was not sent. Raises InvalidRequest if it is malformed."""
    value = request.headers.get(name)
    if value is None:
        return None
    match = pattern.fullmatch(value.strip())
    if match is None:
        raise InvalidRequest(expected)
    return match
