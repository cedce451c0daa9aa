"""Metrics of what the gateway does to spare its back ends: breakers, slots, queues, retries, failovers."""

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
        "1 while calls are held back because the back end keeps failing at this size, else 0.",
    ),
    MetricSpec(
        "flashgate_upstream_slots", "gauge", ("back_end", "model", "slots"),
        "Calls at once: limit (what the back end seems to bear) and used (what is under way).",
    ),
    MetricSpec(
        "flashgate_upstream_queue", "gauge", ("back_end", "model", "priority"),
        "Calls that wait for a slot, by class: critical, interactive, batch.",
    ),
    MetricSpec(
        "flashgate_upstream_shed_total", "counter", ("back_end", "model", "priority", "reason"),
        "Calls turned away before anything was sent: full (the queue), aged (waited too long), late (the "
        "call's own deadline).",
    ),
    MetricSpec(
        "flashgate_upstream_retries_total", "counter", ("model",),
        "Rounds through the back ends that were repeated after a pause.",
    ),
    MetricSpec(
        "flashgate_upstream_failovers_total", "counter", ("model", "left", "taken"),
        "Calls that went on to another back end: which was left, and which was taken.",
    ),
)  # fmt: skip


class PrometheusUpstreamMetrics:
    """The watcher of ``app/upstream``.

    Args:
        of: A metric by its name without the prefix.
    """

    def __init__(self, of: Callable[[str], Family]) -> None:
        self._get_family = of

    def set_breaker(self, back_end: str, model: str, image_size: str, *, held_back: bool) -> None:
        """Show whether calls are held back."""
        self._get_family("upstream_breaker_open").set(int(held_back), back_end, model, image_size)

    def set_slots(self, back_end: str, model: str, limit: int, in_use: int) -> None:
        """Show how many calls may be under way, and how many are."""
        self._get_family("upstream_slots").set(limit, back_end, model, "limit")
        self._get_family("upstream_slots").set(in_use, back_end, model, "used")

    def set_queue_length(self, back_end: str, model: str, priority: Priority, count: int) -> None:
        """Show how many calls wait."""
        self._get_family("upstream_queue").set(count, back_end, model, priority)

    def count_shed(self, back_end: str, model: str, priority: Priority, reason: str) -> None:
        """Count a call that was turned away."""
        self._get_family("upstream_shed_total").add(1, back_end, model, priority, reason)

    def count_retry(self, model: str) -> None:
        """Count a retry."""
        self._get_family("upstream_retries_total").add(1, model)

    def count_failover(self, model: str, left: str, taken: str) -> None:
        """Count a failover."""
        self._get_family("upstream_failovers_total").add(1, model, left, taken)
