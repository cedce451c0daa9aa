"""Requests that nobody thought of, made from the OpenAPI document: the service answers as it is documented.

``FLASHGATE_FUZZ_S=300`` looks further: so many seconds, other requests each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml

from tests.processes import running_gateway
from tests.server.conftest import tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SECONDS = int(os.environ.get("FLASHGATE_FUZZ_S", "0"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "allow_header_conformance",
    "unsupported_method",
)
CASES_MIN = 1000


@dataclass(frozen=True)
class Open:
    """A gateway of its own, because operators' requests change tenants; and a key that opens every route."""

    gateway: Running
    key: str


@pytest.fixture(scope="module")
def opened(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    folder = tmp_path_factory.mktemp("opened")
    tenants = write_tenants(folder / "tenants.yaml", {"everything": tokens_a_day(10_000_000)})
    listed = yaml.safe_load(tenants.path.read_text())
    listed["tenants"][0]["keys"][0]["scopes"] = ["images", "admin"]
    tenants.path.write_text(yaml.safe_dump(listed))
    with running_gateway(folder, **{**settings, "tenants_file": str(tenants.path)}) as gateway:
        yield Open(gateway, tenants.keys["everything"])


@pytest.fixture(scope="module")
def report(opened: Open, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Schemathesis found, asking with a key that opens every route."""
    folder = tmp_path_factory.mktemp("any-request")
    found = folder / "report.json"
    further = ["--max-time", str(SECONDS), "--mode", "all"] if SECONDS else ["--generation-deterministic"]
    command = [
        str(Path(sys.executable).with_name("schemathesis")), f"--config-file={CONFIGURATION}",
        "run", f"{opened.gateway.url}/openapi.json", "--header", f"X-API-Key: {opened.key}",
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "4",
        "--workers", "2", "--continue-on-failure", "--request-timeout", "60", "--warnings", "off",
        "--no-color", "--report", "json", "--report-json-path", str(found), *further,
    ]  # fmt: skip
    patience_s = 100 + SECONDS * 2
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=patience_s, check=False)
    assert found.exists(), ran.stdout[-4000:] + ran.stderr[-2000:]
    (folder / "output.txt").write_text(ran.stdout)
    return dict(json.loads(found.read_text()))


@pytest.mark.timeout(120 + SECONDS * 2)
def test_every_operation_of_the_document_is_asked(report: dict[str, Any], opened: Open) -> None:
    document = httpx2.get(f"{opened.gateway.url}/openapi.json").json()
    documented = sum(len(methods) for methods in document["paths"].values())
    operations = report["operations"]
    assert (operations["tested"], operations["errored"], operations["skipped"]) == (documented, 0, 0)
    assert report["test_cases"]["generated"] >= CASES_MIN
    assert report["errors"] == []


def test_no_request_is_answered_in_another_way_than_documented(report: dict[str, Any]) -> None:
    assert report["failures"] == []
