"""Metrics of the back ends' breakers, slots, queues, retries and failovers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.observability.families import MetricSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.domain.tenancy import Priority
    from app.observability.families import Family

UPSTREAM_METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "flashgate_upstream_breaker_open", "gauge", ("back_end", "model", "image_size"),
        "1 while the circuit breaker is open because the back end keeps failing at this size, else 0.",
    ),
    MetricSpec(
        "flashgate_upstream_spending_cap", "gauge", ("back_end",),
        "1 while the back end refuses every call because a spending cap is reached, else 0.",
    ),
    MetricSpec(
        "flashgate_upstream_refused", "gauge", ("back_end",),
        "1 while Google refuses the back end's key or project, else 0.",
    ),
    MetricSpec(
        "flashgate_upstream_slots", "gauge", ("back_end", "model", "slots"),
        "Concurrent calls: limit (the back end's learned capacity) and used (running calls).",
    ),
    MetricSpec(
        "flashgate_upstream_queue", "gauge", ("back_end", "model", "priority"),
        "Calls that wait for a slot, by class: critical, interactive, batch.",
    ),
    MetricSpec(
        "flashgate_upstream_shed_total", "counter", ("back_end", "model", "priority", "reason"),
        "Calls rejected before anything was sent: full (the queue), aged (waited too long), late (the call's "
        "own deadline).",
    ),
    MetricSpec(
        "flashgate_upstream_retries_total", "counter", ("model",),
        "Repeated rounds through the back ends, each after a pause.",
    ),
    MetricSpec(
        "flashgate_upstream_failovers_total", "counter", ("model", "left", "taken"),
        "Calls that moved to another back end, by the one that was left and the one that was taken.",
    ),
)  # fmt: skip


class PrometheusUpstreamMetrics:
    """Implements ``app/upstream/metrics.py``.

    Args:
        get_family: Returns a metric by its name without the prefix.
    """

    def __init__(self, get_family: Callable[[str], Family]) -> None:
        self._get_family = get_family

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Show whether the breaker is open."""
        self._get_family("upstream_breaker_open").set(int(held_back), back_end, model, image_size)

    def set_spending_cap(self, back_end: str, *, reached: bool) -> None:
        """Show whether a spending cap is reached."""
        self._get_family("upstream_spending_cap").set(int(reached), back_end)

    def set_refused(self, back_end: str, *, refused: bool) -> None:
        """Show whether Google refuses the credential."""
        self._get_family("upstream_refused").set(int(refused), back_end)

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """Show how many calls may run at once, and how many do."""
        self._get_family("upstream_slots").set(limit, back_end, model, "limit")
        self._get_family("upstream_slots").set(in_use, back_end, model, "used")

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """Show how many calls wait."""
        self._get_family("upstream_queue").set(count, back_end, model, priority)

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """Count a rejected call."""
        self._get_family("upstream_shed_total").add(1, back_end, model, priority, reason)

    def count_retry(self, model: str) -> None:
        """Count a retry."""
        self._get_family("upstream_retries_total").add(1, model)

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """Count a failover."""
        self._get_family("upstream_failovers_total").add(1, model, left, taken)
