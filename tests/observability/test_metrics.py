"""The metrics: the table is what is scraped, and nobody can make series."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.budget import Amounts, Budget, BudgetWindow, Span, WindowState
from app.domain.generation import Usage
from app.observability.metrics import METRICS, Metrics
from app.tenants.administration import UsageLine

if TYPE_CHECKING:
    from app.observability.families import MetricSpec

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"\bflashgate_[a-z_]+_(?:total|seconds\w*|remaining|limit|flight)\b")
SPAN = Span(0, 86_400_000)
ZONE = ZoneInfo("UTC")
DAY = Budget("image_tokens", "day", 1000)
KEY_DAY = Budget("images", "day", 10, scope="key")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a real scrape, by name and sorted labels."""
    text = metrics.render()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"flashgate_{name}", tuple(sorted(labels.items()))))


def window(budget: Budget, field: str) -> BudgetWindow:
    return BudgetWindow(budget, field, (SPAN, SPAN, SPAN), ZONE)


def state(budget: Budget, settled: int = 0, held: int = 0, asked: int = 0) -> WindowState:
    return WindowState(budget, settled, held, SPAN, 0, asked)


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: MetricSpec) -> None:
    assert re.fullmatch(r"flashgate_[a-z_]+", spec.name)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert not re.search(r"_(ms|us|milliseconds|kb|mb)(_|$)", spec.name)
    if spec.kind == "histogram":
        assert spec.name.endswith("_seconds")
        assert list(spec.buckets) == sorted(set(spec.buckets))
    assert spec.help.endswith(".")
    assert spec.labels


def test_every_metric_of_the_table_is_scraped_with_its_help_and_no_other_of_that_name() -> None:
    text = Metrics().render()[0].decode()
    told = re.findall(r"^# HELP (flashgate_\w+) (.+)$", text, re.MULTILINE)
    assert sorted(told) == sorted((spec.name, spec.help) for spec in METRICS)


def test_the_scrape_is_prometheus_text_and_shows_the_process() -> None:
    body, content_type = Metrics().render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"process_resident_memory_bytes" in body
    assert b"python_info" in body


def test_no_creation_times_double_the_series() -> None:
    metrics = Metrics()
    metrics.count_request("native", "/v1/images:generate", "ok", 0.1)
    assert b"_created" not in metrics.render()[0]


def test_applications_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.count_cache_status("hit")
    assert value(one, "cache_total", status="hit") == 1
    assert value(other, "cache_total", status="hit") is None


def test_unknown_tenants_are_one_series_and_known_ones_have_their_own() -> None:
    metrics = Metrics()
    metrics.register_tenant("known")
    for at in range(1000):
        metrics.count_budget_refusal(f"stranger-{at}", state(DAY))
    metrics.count_budget_refusal("known", state(DAY))
    labels = {"scope": "tenant", "unit": "image_tokens", "window": "day", "mode": "enforce"}
    assert value(metrics, "budget_refusals_total", tenant="other", **labels) == 1000
    assert value(metrics, "budget_refusals_total", tenant="known", **labels) == 1
    assert b"stranger" not in metrics.render()[0]


def test_a_hundred_thousand_tenants_and_paths_are_no_more_series_than_the_first_thousand() -> None:
    def filled(first: int, last: int) -> int:
        for at in range(first, last):
            metrics.register_tenant(f"tenant-{at}")
            metrics.count_budget_refusal(f"tenant-{at}", state(DAY))
            metrics.show_windows([UsageLine(f"tenant-{at}", None, None, state(DAY))])
            metrics.count_request("native", f"/path/{at}", "ok", 0.1)
        return len(samples(metrics))

    metrics = Metrics(tenants_max=100)
    series = filled(0, 1000)
    assert filled(1000, 100_000) == series < 3000


def test_no_label_can_make_series_without_end() -> None:
    metrics = Metrics()
    for at in range(20_000):
        metrics.count_violation(f"code_{at}")
        metrics.count_request(f"surface{at}", f"/route/{at}", f"outcome_{at}", 0.1)
    assert len(samples(metrics)) < 5000
    assert value(metrics, "validation_violations_total", code="other") == 20_000 - 200
    total = sum(count for (name, _), count in samples(metrics).items() if name == "flashgate_requests_total")
    assert total == 20_000


def test_tokens_by_modality_sum_to_what_google_counts() -> None:
    metrics = Metrics()
    usage = Usage(11, 1120, 1680, 90, 40, 7, cached_input=5)
    metrics.count_usage("gemini", usage)
    metrics.count_usage("gemini", Usage(image_output=1680, estimated=True))
    counted = {
        dict(labels)["modality"]: count
        for (name, labels), count in samples(metrics).items()
        if name == "flashgate_tokens_total"
    }
    assert counted == {
        "text_input": 11, "image_input": 1120, "tool_use": 7,
        "image_output": 3360, "text_output": 90, "thinking": 40,
    }  # fmt: skip
    assert sum(counted.values()) == usage.input_tokens + usage.output_tokens + 1680
    assert value(metrics, "cached_input_tokens_total", model="gemini") == 5
    assert value(metrics, "usage_estimated_total", model="gemini") == 1


def test_ledger_amounts_are_counted_by_event_and_unit() -> None:
    metrics = Metrics()
    metrics.count_budget_units("reserved", Amounts(1120, 1200, 0, 5, 1190))
    metrics.count_budget_units("reserved", Amounts(1120, 1200, 0, 5, 1190))
    found = {
        dict(labels)["unit"]: count
        for (name, labels), count in samples(metrics).items()
        if name == "flashgate_budget_units_total"
    }
    assert found == {"image_tokens": 2240, "total_tokens": 2400, "usd": 10, "all_output_tokens": 2380}


def test_what_is_left_is_shown_for_tenants_and_for_their_tightest_key() -> None:
    metrics = Metrics()
    metrics.register_tenant("a")
    tenant = {"tenant": "a", "scope": "tenant", "unit": "image_tokens", "window": "day"}
    key = {"tenant": "a", "scope": "key", "unit": "images", "window": "day"}
    of_tenant, first, second = state(DAY, 1030, 50), state(KEY_DAY, 13), state(KEY_DAY, 1)
    metrics.show_windows(
        [
            UsageLine("a", None, None, of_tenant),
            UsageLine("a", None, "k1", first),
            UsageLine("a", None, "k2", second),
        ]
    )
    assert value(metrics, "budget_remaining", **tenant) == of_tenant.remaining
    assert value(metrics, "budget_limit", **tenant) == 1000
    assert value(metrics, "budget_debt", **tenant) == 30, "what is held is no debt"
    assert value(metrics, "budget_remaining", **key) == min(first.remaining, second.remaining)
    assert value(metrics, "budget_debt", **key) == 3, "that of the key which owes most"
    assert value(metrics, "budget_window_end_timestamp_seconds", **key) == first.span.end_ms / 1000
    metrics.show_windows([UsageLine("a", None, "k2", second)])
    assert value(metrics, "budget_remaining", **key) == second.remaining
    assert value(metrics, "budget_debt", **key) == 0
    names = [labels for name, labels in samples(metrics) if name == "flashgate_budget_remaining"]
    assert len(names) == 1, "what is not shown any more is gone"
    metrics.show_windows([])
    assert "flashgate_budget_remaining" not in {name for name, _ in samples(metrics)}


def test_budgets_of_tenants_beyond_the_bound_and_of_end_users_are_not_shown() -> None:
    metrics = Metrics(tenants_max=1)
    users = replace(DAY, scope="user")
    lines = [UsageLine("a", None, None, state(users)), UsageLine("beyond", None, None, state(DAY))]
    metrics.show_windows(lines)
    assert "flashgate_budget_remaining" not in {name for name, _ in samples(metrics)}


def test_every_metric_named_in_documents_and_dashboards_exists() -> None:
    known = {spec.name for spec in METRICS}
    suffixes = {f"{spec.name}{end}" for spec in METRICS for end in ("_bucket", "_sum", "_count")}
    documents = [
        path
        for pattern in ("*.md", "deploy/**/*", "docs/**/*")
        for path in ROOT.glob(pattern)
        if path.name != "CHANGELOG.md"  # which names what was renamed
        and path.is_file()
        and path.suffix in {".md", ".json", ".yaml", ".yml", ".rules"}
    ]
    named = {
        (path.name, name)
        for path in documents
        for name in re.findall(
            r"\bflashgate_[a-z_]+_(?:total|seconds\w*|remaining|limit|flight)\b", path.read_text()
        )
    }
    assert {pair for pair in named if pair[1] not in known | suffixes} == set()
