"""A real Prometheus scrapes a real gateway under load, and answers every panel, rule and alert."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from tests.deploy.files import DEPLOY
from tests.deploy.test_rules import EXPRESSIONS
from tests.processes import HTTP, Running, free_port, running_gateway
from tests.server.conftest import PEPPER, Client, emulator, wait_for, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["emulator"]

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")

SECONDS = 1
"""Between two scrapes; what a panel rates over minutes has enough of them after a few seconds."""

BUDGETS = [
    {"unit": "image_tokens", "window": "day", "limit": 100_000},
    {"unit": "usd", "window": "month", "limit": 1},
    {"unit": "images", "window": "day", "limit": 1, "mode": "shadow"},
]
LOAD: tuple[dict[str, Any], ...] = (
    {"image_size": "512"}, {"image_size": "1K", "seed": 1}, {"image_size": "1K", "seed": 1},
    {"image_size": "7K"}, {"image_size": "512", "n": 2}, {"directive": "image-safety"},
    {"directive": "unavailable:1"}, {"directive": "text-only"}, {"directive": "quota"},
)  # fmt: skip

VARIABLES = {"$tenant": ".*", "$__rate_interval": "1m", "$__range": "5m", "$model": ".*"}

# What the load shows. The other expressions ask for what a good minute has none of, and answer with nothing.
SHOWN = (
    "panel Requests A", "panel Used of each budget A", "panel Hours until a budget is used up B",
    "panel By outcome A", "panel How long answers take (p95) A", "panel Admissions A",
    "panel Requests by cache status A", "panel Calls by outcome A", "panel Tokens by modality A",
    "panel Images by size A", "panel Refusals A", "panel How holds ended A",
)  # fmt: skip


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, emulator: Running) -> Iterator[str]:
    """The address of a Prometheus that has seen a gateway under load."""
    folder = tmp_path_factory.mktemp("prometheus")
    tenants = write_tenants(folder / "tenants.yaml", {"search": BUDGETS})
    settings = {
        "tenants_file": str(tenants.path), "key_pepper": PEPPER, "upstream": "emulator",
        "emulator_base_url": emulator.url, "budget_metrics_s": "1", "upstream_breaker.calls_min": "1000",
    }  # fmt: skip
    port = free_port()
    with running_gateway(folder / "gateway", **settings) as gateway:
        configure(folder, gateway)
        command = [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: is_ready(url), "Prometheus is ready")
            put_under_load(Client(gateway.url, tenants.keys["search"]), url)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def configure(folder: Path, gateway: Running) -> None:
    """Prometheus with the project's own rules, evaluated every second."""
    for file in (DEPLOY / "prometheus/rules").glob("*.yml"):
        rules = yaml.safe_load(file.read_text())
        for group in rules["groups"]:
            group["interval"] = f"{SECONDS}s"
        (folder / file.name).write_text(yaml.safe_dump(rules))
    target = urlsplit(gateway.metrics_url)
    config = {
        "global": {"scrape_interval": f"{SECONDS}s", "evaluation_interval": f"{SECONDS}s"},
        "rule_files": [f"{folder}/alerts.yml", f"{folder}/recording.yml"],
        "scrape_configs": [
            {"job_name": "flashgate", "static_configs": [{"targets": [f"{target.hostname}:{target.port}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))


def is_ready(url: str) -> bool:
    try:
        return HTTP.get(f"{url}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False


def put_under_load(client: Client, url: str) -> None:
    """Requests of every kind, before and after scrapes, so that there are rates."""
    scrapes = 'sum(scrape_samples_scraped{job="flashgate"})'
    wait_for(lambda: bool(ask(url, scrapes)), "the gateway is scraped")
    for turn in range(3):
        with ThreadPoolExecutor(4) as pool:
            for at, body in enumerate(LOAD):
                words: dict[str, Any] = {**body}
                directive = words.pop("directive", None)
                prompt = f"{turn} {at}" + (f" [[emulate:{directive}]]" if directive else "")
                pool.submit(client.post, {"prompt": prompt, "delivery": "uri", **words})
        seen = count_requests(url)
        wait_for(lambda seen=seen: count_requests(url) > seen, "they are scraped")  # type: ignore[misc]


def count_requests(url: str) -> float:
    result = ask(url, "sum(flashgate_requests_total)")
    return float(result[0]["value"][1]) if result else 0.0


def ask(url: str, expression: str) -> list[Any]:
    """The answer of an instant query; a panel's variables stand for everything."""
    for variable, value in {
        "$tenant": ".*",
        "$__rate_interval": "1m",
        "$__range": "5m",
        "$model": ".*",
    }.items():
        expression = expression.replace(variable, value)
    answer = HTTP.get(f"{url}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
    return list(answer["data"]["result"])


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_prometheus_answers_every_expression(prometheus: str, where: str) -> None:
    ask(prometheus, EXPRESSIONS[where])


@pytest.mark.parametrize("where", SHOWN)
def test_what_the_load_did_is_shown(prometheus: str, where: str) -> None:
    wait_for(lambda: bool(ask(prometheus, EXPRESSIONS[where])), where)
    for series in ask(prometheus, EXPRESSIONS[where]):
        assert series["value"][1] != "NaN", series


def test_no_rule_fails(prometheus: str) -> None:
    groups = HTTP.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 20
    assert [rule for rule in rules if rule["health"] == "err"] == []
