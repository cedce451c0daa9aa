"""Prometheus' rules and the dashboard ask only for what the gateway counts, and do what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import get_args

import pytest

from app.domain.budget import UNITS, Mode
from app.domain.failure import list_error_classes
from app.observability.metrics import METRICS
from tests.deploy.files import DEPLOY, alerts, dashboard, queried, recorded, series_names

TARGET_LABELS = {"job", "instance", "le"}
ALERT_LABELS = {"alertname", "alertstate", "severity"}


def expressions() -> dict[str, str]:
    """Every PromQL expression of the project by where it stands."""
    found = {f"rule {name}": expr for name, expr in recorded().items()}
    found |= {f"alert {name}": rule["expr"] for name, rule in alerts().items()}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        found[f"annotation {annotation['name']}"] = annotation["expr"]
    return found


EXPRESSIONS = expressions()


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_series_that_is_asked_for_exists_with_its_labels(where: str) -> None:
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    known = series_names() | set(recorded()) | {"up", "ALERTS"}
    series = queried(EXPRESSIONS[where])
    assert series, "an expression asks for something"
    for name, matchers in series.items():
        assert name in known
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if base in labels:
            assert set(matchers) <= labels[base] | TARGET_LABELS
        if name == "ALERTS":
            assert set(matchers) <= ALERT_LABELS


def test_a_series_that_does_not_exist_would_be_found() -> None:
    series = queried('sum by (model) (rate(flashgate_upstream_calls_totals{outcome="ok"}[5m])) > 0')
    assert series == {"flashgate_upstream_calls_totals": {"outcome": "=ok"}}
    assert "flashgate_upstream_calls_totals" not in series_names()


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_outcome_that_is_asked_for_can_happen(where: str) -> None:
    codes = {error.code for error in list_error_classes()}
    outcomes = codes | {"ok", "refused", "cancelled"} | {f"status_{status}" for status in range(400, 600)}
    for name, matchers in queried(EXPRESSIONS[where]).items():
        if "outcome" in matchers and name != "flashgate_settlements_total":
            for alternative in matchers["outcome"].lstrip("=!~").split("|"):
                assert any(re.fullmatch(alternative, outcome) for outcome in outcomes), alternative
        if "unit" in matchers:
            assert matchers["unit"].lstrip("=!~") in UNITS
        if "mode" in matchers:
            assert matchers["mode"].lstrip("=!~") in get_args(Mode)


def test_every_alert_says_how_urgent_it_is_and_what_happened() -> None:
    for name, rule in alerts().items():
        assert re.fullmatch(r"Flashgate[A-Z]\w+", name)
        assert rule["labels"] == {"severity": rule["labels"]["severity"]}
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}
        assert rule["annotations"]["summary"].endswith(".")


def test_every_alert_has_a_case_and_an_entry_in_the_runbook() -> None:
    cases = (DEPLOY / "prometheus/tests/alerts.yml").read_text(encoding="utf-8")
    runbook = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
    for name in alerts():
        assert f'"{name}"' in cases or f"alertname: {name}\n" in cases, f"no case for {name}"
        assert f"### {name}\n" in runbook, f"nothing in the runbook on {name}"
    written = re.findall(r"^### (Flashgate\w+)$", runbook, flags=re.MULTILINE)
    assert written == list(alerts())


def test_the_dashboard_shows_every_metric_or_a_rule_that_uses_it() -> None:
    shown: set[str] = set()
    for where, expression in EXPRESSIONS.items():
        if where.startswith("panel"):
            shown |= set(queried(expression))
    for name, expression in recorded().items():
        if name in shown:
            shown |= set(queried(expression))
    missing = {metric.name for metric in METRICS} - {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in shown
    }
    assert missing == set()


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)")
def test_the_rules_fire_when_they_should_and_only_then() -> None:
    tested = subprocess.run(
        ["promtool", "test", "rules", str(DEPLOY / "prometheus/tests/alerts.yml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
