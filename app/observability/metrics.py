"""The metrics: one table of declarations, and one registry for each application.

``METRICS`` is the only place that states a metric's name, labels and meaning; the metrics are built from it
and the documentation is checked against it. Metrics fail open: no request fails because it cannot be counted.

Tokens are counted in two metrics. ``flashgate_tokens_total`` is the model's usage by modality, and
``flashgate_budget_units_total`` is the ledger's bookings by event and unit. A reservation has no modality and
usage has no reservation, so one metric for both would have labels that exclude each other.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Literal

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

from app.domain.budget import UNITS
from app.domain.refusals import classify_reason
from app.observability.families import OTHER, Family, MetricSpec
from app.observability.upstream_metrics import UPSTREAM_METRICS, PrometheusUpstreamMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from app.domain.budget import Amounts, WindowState
    from app.domain.generation import Usage
    from app.tenants.administration import UsageLine

# A creation time for each counter would double the number of series, and no alert rule uses it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
# The model answers within 4 to 60 seconds; the small ones are for the emulator.
_UPSTREAM_SECONDS = (0.01, 0.05, 0.25, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_STORE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "flashgate_requests_total", "counter", ("surface", "route", "outcome"),
        "Requests answered, by surface, route template, and outcome: ok or the error's code.",
    ),
    MetricSpec(
        "flashgate_request_duration_seconds", "histogram", ("surface", "route"),
        "Seconds from a request's headers to the last byte of its answer.", _REQUEST_SECONDS, series_max=100,
    ),
    MetricSpec(
        "flashgate_in_flight", "gauge", ("stage",),
        "Work in progress: request (being answered), waiting (for another result), upstream (calls).",
    ),
    MetricSpec(
        "flashgate_operations_total", "counter", ("state",),
        "Operations that ended in this process: done, failed, or cancelled.",
    ),
    MetricSpec(
        "flashgate_validation_violations_total", "counter", ("code",),
        "Violations found in requests before anything was spent, by code.", series_max=200,
    ),
    MetricSpec(
        "flashgate_authentications_total", "counter", ("outcome",),
        "Keys and tokens that callers presented: ok or refused.",
    ),
    MetricSpec(
        "flashgate_admissions_total", "counter", ("decision",),
        "Admissions by decision: lead, hit, follow, failed, absent; refused (by a budget), limited (by a "
        "rate); replayed, inflight or mismatched (under an idempotency key).",
    ),
    MetricSpec(
        "flashgate_cache_total", "counter", ("status",),
        "Requests by cache status: hit, miss, coalesced, bypass.",
    ),
    MetricSpec(
        "flashgate_settlements_total", "counter", ("outcome", "state"),
        "Holds that ended, by outcome (settle, void, charge) and state: applied, repeated (nothing changed) "
        "or late (the hold had expired and its booking was corrected).",
    ),
    MetricSpec(
        "flashgate_budget_units_total", "counter", ("event", "unit"),
        "Amounts moved in the ledger by this process. Events: reserved, settled, released (reserved but not "
        "used), charged (outcome unknown, booked as expected), unresolved (set aside beside it), overage "
        "(used beyond what was reserved). "
        f"Units: {', '.join(UNITS)}; dollars are counted in billionths.",
    ),
    MetricSpec(
        "flashgate_budget_remaining", "gauge", ("tenant", "scope", "unit", "window"),
        "Amount left in a tenant's budget window, read from the store every FLASHGATE_BUDGET_METRICS_S by "
        "one replica, which exports it for all. Dollars are in billionths. For the scopes key and project, "
        "it is the smallest amount that any of the tenant's keys has left. Those of end users are not shown.",
        series_max=10_000,
    ),
    MetricSpec(
        "flashgate_budget_limit", "gauge", ("tenant", "scope", "unit", "window"),
        "The limit that flashgate_budget_remaining is measured against.", series_max=10_000,
    ),
    MetricSpec(
        "flashgate_budget_debt", "gauge", ("tenant", "scope", "unit", "window"),
        "Amount by which settled and unresolved usage exceeds the limit of a tenant's budget window; 0 "
        "within the limit. Dollars are in billionths. For the scopes key and project, it is the largest "
        "amount of any of the tenant's keys.",
        series_max=10_000,
    ),
    MetricSpec(
        "flashgate_budget_window_end_timestamp_seconds", "gauge", ("tenant", "scope", "unit", "window"),
        "Unix time at which the window ends that flashgate_budget_remaining is about; lifetime budgets have "
        "none.", series_max=10_000,
    ),
    MetricSpec(
        "flashgate_budget_refusals_total", "counter", ("tenant", "scope", "unit", "window", "mode"),
        "Budget windows with too little left for a request; in shadow mode the request was still served.",
        series_max=10_000,
    ),
    MetricSpec(
        "flashgate_tokens_total", "counter", ("model", "modality"),
        "Tokens that the model used: text_input, image_input, tool_use, image_output, text_output, thinking. "
        "Their sum is Google's total.",
    ),
    MetricSpec(
        "flashgate_cached_input_tokens_total", "counter", ("model",),
        "The part of the input tokens that came from Google's context cache.",
    ),
    MetricSpec(
        "flashgate_search_queries_total", "counter", ("model",),
        "Queries of searches that answers list, each of which Google bills.",
    ),
    MetricSpec(
        "flashgate_searches_beyond_hold_total", "counter", ("model",),
        "Queries of searches beyond the number that is held for a call. They are booked, so they can exceed "
        "a budget in usd.",
    ),
    MetricSpec(
        "flashgate_usage_estimated_total", "counter", ("model",),
        "Answers without reported usage, which was taken from the card's table instead.",
    ),
    MetricSpec(
        "flashgate_images_total", "counter", ("model", "image_size"),
        "Images that the model delivered, by requested size.",
    ),
    MetricSpec(
        "flashgate_bounded_calls_total", "counter", ("model", "thinking_level", "ending"),
        "Answers by what became of the bound on their output: within it, cut (before a picture was whole), "
        "over (more than it allows), or none (no bound was sent).",
    ),
    MetricSpec(
        "flashgate_model_retirement_timestamp_seconds", "gauge", ("model", "back_end"),
        "Unix time of the announced end of a model at a back end that may be called.", series_max=100,
    ),
    MetricSpec(
        "flashgate_delivery_mismatches_total", "counter", ("model", "code"),
        "Images that differ from the request: size_mismatch, mime_mismatch.",
    ),
    MetricSpec(
        "flashgate_image_bytes_total", "counter", ("event",),
        "Bytes of images: received (from the model), stored, loaded (from the store).",
    ),
    MetricSpec(
        "flashgate_discarded_images_total", "counter", ("reason",),
        "Objects of the store of pictures that were deleted because they were damaged (their bytes were not "
        "those of their id) or orphaned (nothing referred to them, as after a process was killed).",
    ),
    MetricSpec(
        "flashgate_stored_images", "gauge", ("store",),
        "Images that the last round of the sweep found in the previous store; at 0 it is no longer needed.",
    ),
    MetricSpec(
        "flashgate_upstream_calls_total", "counter", ("back_end", "model", "outcome"),
        "Calls of the model, one attempt each, by back end: ok, the error's code, or cancelled.",
    ),
    MetricSpec(
        "flashgate_other_model_answers_total", "counter", ("back_end", "model", "answered_by"),
        "Answers of another model than the requested one, by the card of the one that answered; unknown for "
        "one without a card.",
    ),
    MetricSpec(
        "flashgate_upstream_finishes_total", "counter", ("model", "reason"),
        "Answers of the model by finish reason or block reason; none without a reason, unknown for one that "
        "flashgate does not know.",
    ),
    MetricSpec(
        "flashgate_upstream_duration_seconds", "histogram", ("model", "outcome"),
        "Seconds that a call of the model took.", _UPSTREAM_SECONDS, series_max=100,
    ),
    MetricSpec(
        "flashgate_store_commands_total", "counter", ("command", "outcome"),
        "Operations of the store: ok, the error's code, or cancelled.",
    ),
    MetricSpec(
        "flashgate_store_command_duration_seconds", "histogram", ("command",),
        "Seconds that an operation of the store took, without waiting for other requests' results.",
        _STORE_SECONDS,
    ),
    MetricSpec(
        "flashgate_store_breaker_open", "gauge", ("pool",),
        "1 while the store's circuit breaker refuses callers, by pool (ledger, images); else 0.",
    ),
    MetricSpec(
        "flashgate_settlements_waiting", "gauge", ("kept",),
        "Settlements that the store has not acknowledged, by storage: disk, memory.",
    ),
    MetricSpec(
        "flashgate_journal_failures_total", "counter", ("error",),
        "Failed writes of the journal, by errno name, such as ENOSPC.",
    ),
    MetricSpec(
        "flashgate_store_data_losses_total", "counter", ("policy",),
        "Tenants' ledgers that the store was found to have lost, by policy: rebuild, closed, open.",
    ),
    MetricSpec(
        "flashgate_holds_restored_total", "counter", ("policy",),
        "Holds that the store had lost and that this replica restored.",
    ),
    MetricSpec(
        "flashgate_store_lost_units_total", "counter", ("unit",),
        "Booked amounts that the store had lost and that this replica put back. Dollars are counted in "
        "billionths.",
    ),
    MetricSpec(
        "flashgate_ledger_malformed_entries_total", "counter", ("kind",),
        "Entries of the ledger that could not be read and were set aside: hold, counter, result, claim, "
        "lead, call, usage, limit; or were left alone because a later version wrote them: later.",
    ),
    MetricSpec(
        "flashgate_store_histories_total", "counter", ("missing",),
        "Times that the store continued from a different state, after a restart, a failover or the restore "
        "of a backup; by whether this replica found anything missing: yes, no. A failover may count twice, "
        "for its process and for its replication id.",
    ),
    *UPSTREAM_METRICS,
)  # fmt: skip


_BUDGET_GAUGES = (
    "budget_remaining", "budget_limit", "budget_debt", "budget_window_end_timestamp_seconds",
)  # fmt: skip

BoundEnding = Literal["within", "cut", "over", "none"]
"""What became of the bound on an answer's output."""


class Metrics:
    """All metrics of one application, in its own registry, so that one process can hold several.

    Only registered tenants appear in the tenant label; all others are ``other``, so that no caller can create
    series (docs/reliability.md R70).

    Args:
        tenants_max: How many tenants have their own series; later ones are ``other``.
    """

    def __init__(self, tenants_max: int = 1000) -> None:
        self._tenants_max = tenants_max
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._families = {spec.name: Family(spec, self._registry) for spec in METRICS}
        self.upstream = PrometheusUpstreamMetrics(self._get_family)
        self._tenants: set[str] = set()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type: OpenMetrics for who accepts it, which has exemplars."""
        if "application/openmetrics-text" in accept:
            body: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return body, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _get_family(self, name: str) -> Family:
        return self._families[f"flashgate_{name}"]

    def register_tenant(self, tenant_id: str) -> None:
        """Give a configured tenant its own series, unless there are too many."""
        if len(self._tenants) < self._tenants_max:
            self._tenants.add(tenant_id)

    def register_tenants(self, tenant_ids: Iterable[str]) -> None:
        """Give configured tenants their own series."""
        for tenant_id in tenant_ids:
            self.register_tenant(tenant_id)

    def _get_tenant_label(self, tenant_id: str) -> str:
        if tenant_id in self._tenants:
            return tenant_id
        return OTHER

    def count_request(self, surface: str, route: str, outcome: str, duration_s: float) -> None:
        """Count an answered request. ``route`` is a template, never a path."""
        self._get_family("requests_total").add(1, surface, route, outcome)
        self._get_family("request_duration_seconds").observe(duration_s, surface, route)

    def track_in_flight(self, stage: str, change: Literal[1, -1]) -> None:
        """Count a piece of work that starts (1) or ends (-1)."""
        self._get_family("in_flight").add(change, stage)

    def count_operation(self, state: str) -> None:
        """Count an operation that ended."""
        self._get_family("operations_total").add(1, state)

    def count_violation(self, code: str) -> None:
        """Count a violation found in a request."""
        self._get_family("validation_violations_total").add(1, code)

    def count_authentication(self, outcome: Literal["ok", "refused"]) -> None:
        """Count a presented key or token."""
        self._get_family("authentications_total").add(1, outcome)

    def count_admission(self, decision: str) -> None:
        """Count a decision of the ledger."""
        self._get_family("admissions_total").add(1, decision)

    def count_cache_status(self, status: str) -> None:
        """Count a request by its cache status."""
        self._get_family("cache_total").add(1, status)

    def count_settlement(self, outcome: str, state: str) -> None:
        """Count the end of a hold."""
        self._get_family("settlements_total").add(1, outcome, state)

    def count_budget_units(self, event: str, amounts: Amounts) -> None:
        """Count amounts that the ledger moved, in every unit that is not zero."""
        for unit, amount in zip(amounts._fields, amounts, strict=True):
            if amount > 0:
                self._get_family("budget_units_total").add(amount, event, unit)

    def show_windows(self, lines: Iterable[UsageLine]) -> None:
        """Show these budget windows and no others. Keys, and projects, share a series: see its help text.

        The tenants are registered: this replica may never have served one that was created at run time.
        """
        lines = tuple(lines)
        self.register_tenants(line.tenant_id for line in lines)
        shown: dict[tuple[str, ...], WindowState] = {}
        debts: dict[tuple[str, ...], int] = defaultdict(int)
        for line in lines:
            budget, tenant = line.window.budget, self._get_tenant_label(line.tenant_id)
            if tenant == OTHER or budget.scope == "user":
                continue  # there may be any number of end users, and anybody can name new ones
            labels: tuple[str, ...] = (tenant, budget.scope, budget.unit, budget.window)
            debts[labels] = max(debts[labels], line.window.debt)
            if labels not in shown or line.window.remaining < shown[labels].remaining:
                shown[labels] = line.window
        for name in (
            "budget_remaining",
            "budget_limit",
            "budget_debt",
            "budget_window_end_timestamp_seconds",
        ):
            self._get_family(name).clear()
        for labels, window in shown.items():
            self._get_family("budget_remaining").set(window.remaining, *labels)
            self._get_family("budget_limit").set(window.budget.limit, *labels)
            self._get_family("budget_debt").set(debts[labels], *labels)
            if not window.endless:
                end_s = window.span.end_ms / 1000
                self._get_family("budget_window_end_timestamp_seconds").set(end_s, *labels)

    def count_budget_refusal(self, tenant_id: str, state: WindowState) -> None:
        """Count a window that refused, or would have."""
        budget = state.budget
        self._get_family("budget_refusals_total").add(
            1, self._get_tenant_label(tenant_id), budget.scope, budget.unit, budget.window, budget.mode
        )

    def count_usage(self, model: str, usage: Usage) -> None:
        """Count the tokens that one call of the model used."""
        tokens = {
            "text_input": usage.text_input,
            "image_input": usage.image_input,
            "tool_use": usage.tool_use,
            "image_output": usage.image_output,
            "text_output": usage.text_output,
            "thinking": usage.thinking,
        }
        for modality, count in tokens.items():
            if count > 0:
                self._get_family("tokens_total").add(count, model, modality)
        if usage.cached_input > 0:
            self._get_family("cached_input_tokens_total").add(usage.cached_input, model)
        if usage.search_queries > 0:
            self._get_family("search_queries_total").add(usage.search_queries, model)
        if usage.estimated:
            self._get_family("usage_estimated_total").add(1, model)

    def count_images(self, model: str, image_size: str, count: int) -> None:
        """Count delivered images."""
        self._get_family("images_total").add(count, model, image_size)

    def count_bounded_call(self, model: str, level: str, ending: BoundEnding) -> None:
        """Count an answer by what became of the bound on its output."""
        self._get_family("bounded_calls_total").add(1, model, level, ending)

    def count_searches_beyond_hold(self, model: str, count: int) -> None:
        """Count queries of one answer for which nothing was held."""
        self._get_family("searches_beyond_hold_total").add(count, model)

    def set_retirement(self, model: str, back_end: str, day: date) -> None:
        """Tell from which day, of UTC, a back end no longer serves a model."""
        begin = datetime.combine(day, time(), UTC).timestamp()
        self._get_family("model_retirement_timestamp_seconds").set(begin, model, back_end)

    def count_mismatch(self, model: str, code: str) -> None:
        """Count an image that differs from the request."""
        self._get_family("delivery_mismatches_total").add(1, model, code)

    def count_image_bytes(self, event: Literal["received", "stored", "loaded"], count: int) -> None:
        """Count bytes of images."""
        self._get_family("image_bytes_total").add(count, event)

    def count_discarded_images(self, reason: Literal["damaged", "orphaned"], count: int = 1) -> None:
        """Count images that were deleted without having expired."""
        self._get_family("discarded_images_total").add(count, reason)

    def set_images_left(self, count: int) -> None:
        """Show how many images the previous store has."""
        self._get_family("stored_images").set(count, "previous")

    def count_upstream_call(self, back_end: str, model: str, outcome: str, duration_s: float) -> None:
        """Count one call of the model."""
        self._get_family("upstream_calls_total").add(1, back_end, model, outcome)
        self._get_family("upstream_duration_seconds").observe(duration_s, model, outcome)

    def count_other_model(self, back_end: str, model: str, answered_by: str) -> None:
        """Count one answer of another model than the requested one."""
        self._get_family("other_model_answers_total").add(1, back_end, model, answered_by)

    def count_finish(self, model: str, reason: str) -> None:
        """Count one answer by its finish reason."""
        self._get_family("upstream_finishes_total").add(1, model, classify_reason(reason))

    def set_store_breaker(self, pool: Literal["ledger", "images"], state: str) -> None:
        """Show whether the breaker of a pool is open or half open."""
        self._get_family("store_breaker_open").set(int(state != "closed"), pool)

    def set_settlements_waiting(self, on_disk: int, in_memory: int) -> None:
        """Show how many settlements the store has not acknowledged, and where they are kept."""
        self._get_family("settlements_waiting").set(on_disk, "disk")
        self._get_family("settlements_waiting").set(in_memory, "memory")

    def count_journal_failure(self, error: str) -> None:
        """Count a write of the journal that failed."""
        self._get_family("journal_failures_total").add(1, error)

    def count_malformed_entry(self, kind: str) -> None:
        """Count an entry of the ledger that cannot be read, by its kind."""
        self._get_family("ledger_malformed_entries_total").add(1, kind)

    def count_history_change(self, missing: Literal["yes", "no"]) -> None:
        """Count that the store goes on from another state, and whether anything was missing here."""
        self._get_family("store_histories_total").add(1, missing)

    def count_data_loss(self, policy: str, restored: int, missing: Amounts) -> None:
        """Count a loss of a tenant's ledger, the holds that were put back, and what they had booked."""
        for unit, amount in missing._asdict().items():
            self._get_family("store_lost_units_total").add(amount, unit)
        self._get_family("store_data_losses_total").add(1, policy)
        self._get_family("holds_restored_total").add(restored, policy)

    def count_store_command(self, command: str, outcome: str, duration_s: float | None) -> None:
        """Count one operation of the store. ``duration_s`` is None if it says nothing about the store."""
        self._get_family("store_commands_total").add(1, command, outcome)
        if duration_s is not None:
            self._get_family("store_command_duration_seconds").observe(duration_s, command)
