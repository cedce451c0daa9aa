"""Who is told what the gateway does to spare its back ends; metrics in production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.domain.tenancy import Priority


class UpstreamMetrics(Protocol):
    """Told of states that change and of decisions that are made; none of it may fail a call."""

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Calls for this size are held back from now on, or no longer."""

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """So many calls may be under way, and so many are."""

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """So many calls of this class wait for a slot."""

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """A call was turned away: ``full``, ``aged`` (it waited too long), or ``late`` (its deadline)."""

    def count_retry(self, model: str) -> None:
        """A call is tried again after a pause."""

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """A call goes on to the next back end."""


class NullMetrics:
    """A watcher that looks away."""

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Nothing."""

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """Nothing."""

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """Nothing."""

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """Nothing."""

    def count_retry(self, model: str) -> None:
        """Nothing."""

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """Nothing."""
