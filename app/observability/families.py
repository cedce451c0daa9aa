"""Metrics with a bounded number of series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import Counter, Gauge, Histogram

from app.observability.logs import CORRELATION
from app.resilience.best_effort import best_effort

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OTHER = "other"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """The declaration of a metric: its name, kind, labels and help text, and the buckets of a histogram.

    ``series_max`` bounds the number of label sets; all further ones are counted under ``other``.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    series_max: int = 500


_KINDS = {"counter": Counter, "gauge": Gauge}


class Family:
    """One metric with a bounded number of series, which are cached because the look-up is a hot path.

    Errors are logged and never raised, so that counting cannot break a request.
    """

    def __init__(self, spec: MetricSpec, registry: CollectorRegistry) -> None:
        self._spec = spec
        self._series: dict[tuple[str, ...], Any] = {}
        self._metric: Counter | Gauge | Histogram
        if spec.kind == "histogram":
            self._metric = Histogram(
                spec.name, spec.help, spec.labels, registry=registry, buckets=spec.buckets
            )
        else:
            self._metric = _KINDS[spec.kind](spec.name, spec.help, spec.labels, registry=registry)

    def _get_series(self, labels: tuple[str, ...]) -> Any:
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._spec.series_max:
                return self._metric.labels(*(OTHER,) * len(labels))
            series = self._series[labels] = self._metric.labels(*labels)
        return series

    def add(self, amount: float, *labels: str) -> None:
        """Add to a counter or a gauge; the amount may be negative for a gauge."""
        with best_effort("metrics"):
            self._get_series(labels).inc(amount)

    def set(self, value: float, *labels: str) -> None:
        """Set a gauge."""
        with best_effort("metrics"):
            self._get_series(labels).set(value)

    def clear(self) -> None:
        """Forget all series."""
        with best_effort("metrics"):
            self._metric.clear()
            self._series.clear()

    def observe(self, value: float, *labels: str) -> None:
        """Add one measurement to a histogram; the request's trace, if it is recorded, is its exemplar."""
        with best_effort("metrics"):
            current = CORRELATION.get()
            exemplar = None
            if current is not None and current.sampled:
                exemplar = {"trace_id": current.trace_id}
            self._get_series(labels).observe(value, exemplar)
