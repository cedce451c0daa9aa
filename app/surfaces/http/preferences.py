"""The ``Prefer`` header (RFC 7240): an asynchronous response, and how long to wait before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastapi import Request

_WAIT: Final = re.compile(r'wait *= *"?(\d{1,6})"?', re.ASCII)

PREFER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": (
        "`respond-async`: answer 202 with an operation that continues and can be read at its `Location`; on "
        "Cloud Run this requires CPU that is always allocated. With `wait=10`, a result that is ready within "
        "10 seconds is returned as usual. Other preferences are ignored (RFC 7240)."
    ),
    "schema": {"type": "string"},
    "example": "respond-async, wait=10",
}
"""The header as a parameter of the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Preference:
    """The supported preferences of a request.

    Attributes:
        wait_s: Seconds to wait for the result before the response is an operation.
    """

    respond_async: bool = False
    wait_s: int = 0


def read_preference(request: Request) -> Preference:
    """Return the caller's preference; of repeated preferences the first counts (RFC 7240 section 2)."""
    items = [item.strip().lower() for item in ",".join(request.headers.getlist("prefer")).split(",")]
    waits = [int(match[1]) for match in map(_WAIT.fullmatch, items) if match]
    return Preference("respond-async" in items, waits[0] if waits else 0)
