"""The files of the deployment, read as what they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from app.observability.metrics import METRICS, Metrics
from app.settings.environment import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def yaml_of(path: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def setting_names() -> set[str]:
    """Every variable that the gateway reads."""
    return set(SETTINGS)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with its arguments on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def series_names() -> set[str]:
    """Every name that a scrape of the gateway can hold, the process' own included."""
    scraped = re.findall(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)", Metrics().render()[0].decode(), flags=re.MULTILINE)
    names = set(scraped)
    for metric in METRICS:
        names.add(metric.name)
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{end}" for end in ("bucket", "sum", "count")}
    return names


def recorded() -> dict[str, str]:
    """The recording rules: name to expression."""
    groups = yaml_of("deploy/prometheus/rules/recording.yml")["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


def alerts() -> dict[str, dict[str, Any]]:
    """The alert rules by name."""
    groups = yaml_of("deploy/prometheus/rules/alerts.yml")["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard."""
    text = (DEPLOY / "grafana/dashboards/flashgate.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def queried(expression: str) -> dict[str, dict[str, str]]:
    """The series that a PromQL expression asks for, each with its label matchers (operator and value).

    A series' name is a word that holds an underscore or a colon and does not stand where labels stand.
    """
    found: dict[str, dict[str, str]] = {}
    bare = re.sub(r"\[[^\]]*\]", "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    for match in re.finditer(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(\s*\()?", bare):
        name, labels, called = match.groups()
        if called or not re.search(r"[_:]|^up$|^ALERTS$", name):
            continue
        matchers = re.findall(r"([a-z_]+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"", labels or "")
        found.setdefault(name, {}).update({label: operator + value for label, operator, value in matchers})
    return found
