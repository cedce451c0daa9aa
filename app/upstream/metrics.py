"""The port through which this package reports breakers, slots, retries and failovers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.domain.tenancy import Priority


class UpstreamMetrics(Protocol):
    """Counts decisions and shows states. No method may raise, so that no call fails because of metrics."""

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Show whether the breaker of this size is open."""

    def set_spending_cap(self, back_end: str, *, reached: bool) -> None:
        """Show whether Google's cap on spending holds all calls back."""

    def set_refused(self, back_end: str, *, refused: bool) -> None:
        """Show whether Google refuses the credential."""

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """Show how many calls may run at once, and how many do."""

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """Show how many calls of this class wait for a slot."""

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """Count a rejected call: ``full`` (queue), ``aged`` (waited too long) or ``late`` (deadline)."""

    def count_retry(self, model: str) -> None:
        """Count a repeated round."""

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """Count a call that moved from one back end to the next."""


class NullMetrics:
    """Metrics that are dropped."""

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Do nothing."""

    def set_spending_cap(self, back_end: str, *, reached: bool) -> None:
        """Do nothing."""

    def set_refused(self, back_end: str, *, refused: bool) -> None:
        """Do nothing."""

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """Do nothing."""

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """Do nothing."""

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """Do nothing."""

    def count_retry(self, model: str) -> None:
        """Do nothing."""

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """Do nothing."""
