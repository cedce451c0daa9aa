"""An operation: a generation that was asked for and is answered elsewhere, whoever waits for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.domain.generation import Spent

OperationState = Literal["waiting", "running", "done", "failed", "cancelled"]
"""
waiting    nothing is sent and nothing spent: it can be cancelled
running    the model is at work, and what that costs is spent
done       the result is there
failed     the problem is there
cancelled  it was cancelled while it waited; nothing was spent
"""

_OPERATION_ID = re.compile(r"op_[0-9a-f]{24}")


def is_operation_id(operation_id: str) -> bool:
    """Whether this can be an operation's id at all."""
    return _OPERATION_ID.fullmatch(operation_id) is not None


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What an operation came to, in the few words that are never forgotten before its time.

    Attributes:
        generation_id: Of its result; empty where it failed.
        spent: What it cost; None where nobody knows.
    """

    generation_id: str
    spent: Spent | None


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it stands. Times are the store's clock in Unix milliseconds.

    Attributes:
        id: ``op_`` and 24 hexadecimal digits.
        expires_ms: When nobody will find it any more.
        alive: Whether its process still says so. One that waits or runs without is lost: what it had sent is
            charged when its hold's lease is over.
        cancel_requested: Whether somebody asked for that after it was sent, in vain.
        text: The result or the problem as JSON, once it has ended; empty where it is no longer kept.
        result: What it came to, where that has cost something; else None.
    """

    id: str
    state: OperationState
    created_ms: int
    expires_ms: int
    alive: bool
    cancel_requested: bool
    text: str
    result: OperationResult | None = None

    @property
    def lost(self) -> bool:
        """Whether its process died before it had ended."""
        return self.state in {"waiting", "running"} and not self.alive
