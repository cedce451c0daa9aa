"""A metric with a bound on its series: what is declared of it, and what is counted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prometheus_client import Counter, Gauge, Histogram

from app.resilience.best_effort import best_effort

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OTHER = "other"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: the name as it is scraped, its kind, labels and meaning; buckets of a histogram in order.

    ``series_max`` bounds how many label sets it may have; all beyond are counted under ``other``.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    series_max: int = 500


_KINDS = {"counter": Counter, "gauge": Gauge}


class Family:
    """One metric with a bound on its series. The series are kept by hand: looking one up is the hot path.

    What cannot be counted is logged: nothing that is told a metric on the way may fail of it.
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
        """Count on; also down, for a gauge."""
        with best_effort("metrics"):
            self._get_series(labels).inc(amount)

    def set(self, value: float, *labels: str) -> None:
        """Put a gauge to a value."""
        with best_effort("metrics"):
            self._get_series(labels).set(value)

    def observe(self, value: float, *labels: str) -> None:
        """Add one measurement to a histogram."""
        with best_effort("metrics"):
            self._get_series(labels).observe(value)
