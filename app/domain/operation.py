"""Operations: generations that go on after their callers were answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.domain.generation import Spent

OperationState = Literal["waiting", "running", "done", "failed", "cancelled"]
"""
waiting    nothing is sent or spent; it can be cancelled
running    the model is working, and its tokens are spent
done       it has a result
failed     it has a problem
cancelled  it was cancelled while it waited; nothing was spent
"""

_OPERATION_ID = re.compile(r"op_[0-9a-f]{24}")


def is_operation_id(operation_id: str) -> bool:
    """Whether the text has the form of an operation's id."""
    return _OPERATION_ID.fullmatch(operation_id) is not None


@dataclass(frozen=True, slots=True)
class OperationResult:
    """The result of an operation in short; unlike its text, no store evicts it.

    Attributes:
        generation_id: The id of the generation; empty where it failed.
        spent: The cost; None where it is unknown.
    """

    generation_id: str
    spent: Spent | None


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation at one moment. Times are the store's clock in Unix milliseconds.

    Attributes:
        id: ``op_`` and 24 hexadecimal digits.
        expires_ms: The time after which it is not found any more.
        alive: Whether its process still renews it. One that waits or runs without renewal is lost: what it
            sent is charged when its hold's lease ends.
        cancel_requested: Whether it was cancelled too late, after it was sent.
        text: The result or the problem as JSON once it has ended; empty where it is no longer stored.
        result: The result in short where it has cost something, else None.
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
        """Whether its process died before it ended."""
        return self.state in {"waiting", "running"} and not self.alive
