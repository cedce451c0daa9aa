"""Errors of repeated work: idempotency keys and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.budget import NANO_PER_USD
from app.domain.errors import GatewayError

if TYPE_CHECKING:
    from app.domain.generation import Spent


class IdempotencyInFlight(GatewayError):
    """The request of this idempotency key is still running, or its outcome is not known yet."""

    code, title, status, retryable = "idempotency_in_flight", "The same key is in use", 409, True


class IdempotencyMismatch(GatewayError):
    """The idempotency key was used for another request."""

    code, title, status = "idempotency_mismatch", "The key was used for another request", 422


class TooManyIdempotencyKeys(GatewayError):
    """The tenant has its largest number of keys, and this one is new; nothing was reserved."""

    code, title, status, retryable = "too_many_idempotency_keys", "Too many idempotency keys", 429, True


class TooManyOperations(GatewayError):
    """The tenant has its largest number of operations, ended ones included; nothing was begun."""

    code, title, status, retryable = "too_many_operations", "Too many operations", 429, True


class ResultGone(GatewayError):
    """The result was paid for before and is no longer stored; it is not made again.

    Args:
        detail: A sentence about the result.
        anew: A sentence about how to generate it again.
        spent: Its cost, or None where that is unknown.
    """

    code, title, status = "result_gone", "The result is no longer kept", 410

    def __init__(self, detail: str = "", anew: str = "", *, spent: Spent | None = None) -> None:
        cost = _describe_cost(spent) if spent else ""
        sentences = " ".join(filter(None, (detail, cost, anew)))
        super().__init__(sentences, usage=spent.usage if spent else None)
        self.spent = spent


def _describe_cost(spent: Spent) -> str:
    tokens = f"{spent.usage.input_tokens} input and {spent.usage.output_tokens} output tokens"
    return f"It cost {tokens}, ${spent.usd / NANO_PER_USD:.6g}."
