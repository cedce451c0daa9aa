"""What a caller would like best (RFC 7240): to be answered at once, and how long it waits before that."""

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
        "`respond-async`: answer 202 with an operation that goes on, to be read at its `Location`; on Cloud "
        "Run that asks for CPU that is always allocated. `wait=10` beside it: answer as usual what is there "
        "within so many seconds. Other preferences are ignored (RFC 7240)."
    ),
    "schema": {"type": "string"},
    "example": "respond-async, wait=10",
}
"""The header as a parameter of the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Preference:
    """What of it is heeded.

    Attributes:
        wait_s: Seconds that the caller waits before it would rather be told of an operation.
    """

    respond_async: bool = False
    wait_s: int = 0


def read_preference(request: Request) -> Preference:
    """The caller's preference; of what is said twice the first counts, as RFC 7240 section 2 has it."""
    items = [item.strip().lower() for item in ",".join(request.headers.getlist("prefer")).split(",")]
    wait = next((match for item in items if (match := _WAIT.fullmatch(item))), None)
    return Preference("respond-async" in items, int(wait[1]) if wait else 0)
