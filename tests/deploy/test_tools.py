"""The deployment's files as tools and the platform's own message classes see them: ``make deploy-check``."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, ROOT, yaml_of
from tests.deploy.tools import needs_tools, programs
from tests.environments import run

GCLOUD = Path(shutil.which("gcloud") or "/nowhere/bin/gcloud").resolve().parents[1]

# Reads a service as gcloud does before it sends it, and prints every field that its classes do not know.
DECODE = """
import json, sys
from apitools.base.protorpclite import messages
from apitools.base.py import encoding
from googlecloudsdk.generated_clients.apis.run.v1 import run_v1_messages

def unknown(message, path):
    found = [f'{path}.{name}' for name in message.all_unrecognized_fields()]
    for field in message.all_fields():
        value = getattr(message, field.name)
        for each in value if field.repeated else [value]:
            if isinstance(each, messages.Message):
                found += unknown(each, f'{path}.{field.name}')
    return found

service = encoding.JsonToMessage(run_v1_messages.Service, sys.stdin.read())
assert service.spec.template.spec.containerConcurrency
print(json.dumps(unknown(service, '')))
"""

# Walks a resource of Terraform beside the message that the provider makes of it, whose fields it names alike,
# and prints what the message does not have. A dynamic block stands for the block that it makes.
COMPARE = """
import json, sys
import hcl2
from google.cloud.memorystore_v1.types import Instance
from google.cloud.run_v2.types import Service

MESSAGES = {'google_cloud_run_v2_service': Service, 'google_memorystore_instance': Instance}
OF_TERRAFORM = {'depends_on', 'lifecycle', 'project', 'location', 'deletion_protection', 'instance_id',
                'desired_auto_created_endpoints'}

def unknown(block, message, path):
    found = []
    for name, value in block.items():
        if name.startswith('__') or (path.count('.') == 0 and name in OF_TERRAFORM):
            continue
        if name == 'dynamic':
            for each in value:
                for inner, made in each.items():
                    found += unknown({inner.strip('\\"'): made['content']}, message, path)
            continue
        field = message.meta.fields.get(name)
        if field is None:
            found.append(f'{path}.{name}')
        elif hasattr(field.message, 'meta') and not field.message.pb().DESCRIPTOR.GetOptions().map_entry:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    found += unknown(each, field.message, f'{path}.{name}')
    return found

seen, found = [], []
for path in sys.argv[1:]:
    with open(path) as file:
        for resource in hcl2.load(file).get('resource', ()):
            for kind, named in resource.items():
                kind = kind.strip('\\"')
                if kind in MESSAGES:
                    seen.append(kind)
                    for block in named.values():
                        found += unknown(block, MESSAGES[kind], kind)
print(json.dumps({'seen': sorted(seen), 'unknown': found}))
"""


def unknown_fields(service: dict[str, Any]) -> list[str]:
    """What gcloud's classes do not know of a service."""
    libraries = f"{GCLOUD}/lib:{GCLOUD}/lib/third_party"
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", DECODE],
        env={"PYTHONPATH": libraries, "PATH": "/usr/bin:/bin:/usr/local/bin"},
        input=json.dumps(service), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.skipif(not (GCLOUD / "lib/googlecloudsdk").is_dir(), reason="gcloud is not installed")
@pytest.mark.parametrize("variant", ["vertex", "gemini"])
def test_gcloud_knows_every_field_of_the_service(variant: str) -> None:
    service = yaml_of(f"deploy/cloudrun/service.{variant}.yaml")
    assert unknown_fields(service) == []
    misspelt = yaml.safe_load(yaml.safe_dump(service).replace("readinessProbe", "readynessProbe"))
    assert unknown_fields(misspelt) == [".spec.template.spec.containers.readynessProbe"]


def compared(folder: Path) -> dict[str, list[str]]:
    """What the platform's messages do not have of a module's resources."""
    files = sorted(folder.glob("*.tf"))
    found: dict[str, list[str]] = json.loads(
        run([programs("release") / "python", "-c", COMPARE, *files], ROOT)
    )
    return found


@needs_tools
@pytest.mark.timeout(600)
def test_terraform_names_only_fields_that_the_platform_has(tmp_path: Path) -> None:
    found = compared(DEPLOY / "terraform")
    assert found["seen"] == ["google_cloud_run_v2_service", "google_memorystore_instance"]
    assert found["unknown"] == []
    text = (DEPLOY / "terraform/service.tf").read_text(encoding="utf-8")
    (tmp_path / "service.tf").write_text(
        text.replace("cpu_idle", "cpu_idel").replace("secret_key_ref", "secret_ref")
    )
    assert compared(tmp_path)["unknown"] == [
        "google_cloud_run_v2_service.template.containers.resources.cpu_idel",
        "google_cloud_run_v2_service.template.containers.env.value_source.secret_ref",
    ]


@needs_tools
@pytest.mark.timeout(900)
def test_the_module_breaks_no_policy(tmp_path: Path) -> None:
    def judged(folder: Path) -> dict[str, Any]:
        options = ["--framework", "terraform", "--skip-download", "--output", "json", "--soft-fail"]
        found: dict[str, Any] = json.loads(
            run([programs("policies") / "checkov", "-d", folder, *options], ROOT)
        )
        return found

    summary = judged(DEPLOY / "terraform")["summary"]
    assert (summary["failed"], summary["parsing_errors"]) == (0, 0)
    assert summary["passed"] >= 10
    shutil.copytree(DEPLOY / "terraform", tmp_path, dirs_exist_ok=True)
    text = (DEPLOY / "terraform/main.tf").read_text(encoding="utf-8")
    (tmp_path / "main.tf").write_text(text.replace("roles/aiplatform.user", "roles/owner"))
    assert judged(tmp_path)["summary"]["failed"] > 0


@needs_tools
@pytest.mark.timeout(600)
def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    hadolint = programs("release") / "hadolint"
    assert run([hadolint, "--no-color", ROOT / "Dockerfile"], ROOT) == ""
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python\nRUN cd /tmp && sudo true\n")
    with pytest.raises(AssertionError, match="DL3006"):
        run([hadolint, "--no-color", wrong], ROOT)


@needs_tools
@pytest.mark.timeout(600)
def test_podman_compose_reads_the_compose_file() -> None:
    compose = programs("release") / "podman-compose"
    found = yaml.safe_load(run([compose, "config"], ROOT))
    assert sorted(found["services"]) == sorted(yaml_of("docker-compose.yml")["services"])
