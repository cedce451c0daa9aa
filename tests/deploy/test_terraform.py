"""The part of the Terraform module that needs no provider, run by Terraform itself.

Resources need Google's provider, which is not to be had everywhere; what the module computes and what it
refuses needs none: its variables, and the queries of the alert policies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.files import DEPLOY, alerts
from tests.environments import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not installed")

GOOD = {
    "project": "a-project",
    "image": "europe-west1-docker.pkg.dev/a-project/flashgate/flashgate@sha256:" + "0" * 64,
    "network": "projects/a-project/global/networks/default",
    "subnetwork": "projects/a-project/regions/europe-west1/subnetworks/default",
}
REFUSED = [
    ("image", "europe-west1-docker.pkg.dev/a-project/flashgate/flashgate:latest"),
    ("callers", ["allUsers"]),
    ("callers", ["serviceAccount:a@b.example", "allAuthenticatedUsers"]),
    ("back_end", "openai"),
    ("name", "Flash_Gate"),
    ("name", "a" * 22),
]
# What Prometheus knows of its own targets, which the collector on Cloud Run does not write.
OF_PROMETHEUS = {"FlashgateDown", "FlashgateAbsent", "FlashgateRestarts"}


def terraform(folder: Path, *arguments: str) -> str:
    """What Terraform says; nothing of the machine's own settings takes part."""
    settings = {"TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return run(["terraform", f"-chdir={folder}", *arguments], folder, **settings)


def test_the_variables_take_a_good_deployment_and_refuse_each_bad_one(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "terraform/variables.tf", tmp_path)
    blocks = ['run "good" {\n  command = plan\n}']
    blocks += [
        f'run "refused_{index}" {{\n  command = plan\n'
        f"  variables {{\n    {name} = {json.dumps(value)}\n  }}\n"
        f"  expect_failures = [var.{name}]\n}}"
        for index, (name, value) in enumerate(REFUSED)
    ]
    given = "\n".join(f"  {name} = {json.dumps(value)}" for name, value in GOOD.items())
    (tmp_path / "variables.tftest.hcl").write_text("\n\n".join([f"variables {{\n{given}\n}}", *blocks]))
    terraform(tmp_path, "init", "-backend=false")
    assert f"{len(REFUSED) + 1} passed, 0 failed" in terraform(tmp_path, "test", "-no-color")


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The queries of the alert policies, as Terraform puts them together from the rules of Prometheus."""
    folder = tmp_path_factory.mktemp("module") / "terraform"
    shutil.copytree(DEPLOY / "prometheus", folder.parent / "prometheus")
    folder.mkdir()
    text = (DEPLOY / "terraform/monitoring.tf").read_text(encoding="utf-8")
    expression = re.search(r"query = (join\(.*?\n      \]\))\n", text, re.DOTALL)
    assert expression
    own = text[: text.index('resource "google_monitoring_alert_policy"')]
    query = expression[1].replace("each.value", "alert")
    (folder / "main.tf").write_text(
        f'{own}\noutput "queries" {{\n  value = {{ for name, alert in local.alerts : name => {query} }}\n}}\n'
    )
    terraform(folder, "init", "-backend=false")
    terraform(folder, "apply", "-auto-approve")
    found: dict[str, str] = json.loads(terraform(folder, "output", "-json", "queries"))
    return found


def test_every_alert_becomes_a_policy_but_those_of_prometheus_itself(queries: dict[str, str]) -> None:
    assert queries.keys() == alerts().keys() - OF_PROMETHEUS


def test_no_query_names_what_only_prometheus_records(queries: dict[str, str]) -> None:
    assert [query for query in queries.values() if "flashgate:" in query] == []


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)")
def test_every_query_is_one(queries: dict[str, str], tmp_path: Path) -> None:
    rules = [{"alert": name, "expr": query} for name, query in queries.items()]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "policies", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout
