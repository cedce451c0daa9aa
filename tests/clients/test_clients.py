"""Generated clients of three languages against the running gateway: ``make clients``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import workshop
from tests.environments import run
from tests.fixtures import image_path
from tests.processes import HTTP

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import Running
    from tests.server.conftest import Tenants

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("FLASHGATE_CLIENTS"),
        reason="installs generators and compilers of three languages: make clients",
    ),
]

CALLERS: dict[str, Callable[[], list[list[object]]]] = {
    "python": workshop.python_callers,
    "typescript": workshop.typescript_callers,
    "java": workshop.java_callers,
}


@pytest.fixture(scope="module", params=list(CALLERS))
def seen(request: pytest.FixtureRequest, gateway: Running, tenants: Tenants) -> dict[str, Any]:
    """What the caller of one language saw, after its client was generated, built and type-checked."""
    caller, readme = CALLERS[request.param]()
    files = [image_path("harbour.png"), image_path("orchard.webp")]
    arguments = [gateway.url, tenants.keys["ample"], tenants.keys["poor"], *files]
    found = dict(json.loads(run([*caller, *arguments], workshop.WORKSHOP)))
    return found | {"readme": int(run([*readme, *arguments[:2]], workshop.WORKSHOP))}


def test_the_readmes_few_lines_fetch_a_picture(seen: dict[str, Any]) -> None:
    assert seen["readme"] > 1000


def test_a_generated_client_generates(seen: dict[str, Any]) -> None:
    assert seen["made"]["tokens"] == 747
    assert seen["made"]["width"] >= 512


def test_a_generated_client_downloads_the_very_bytes(
    seen: dict[str, Any], gateway: Running, tenants: Tenants
) -> None:
    url = f"{gateway.url}/v1/images/{seen['made']['id']}"
    kept = HTTP.get(url, headers={"X-API-Key": tenants.keys["ample"]}).content
    assert len(kept) == seen["bytes"] > 1000
    assert hashlib.sha256(kept).hexdigest() == seen["sha256"]


def test_a_generated_client_edits_with_two_files(seen: dict[str, Any]) -> None:
    assert seen["edited"]["tokens"] == 747
    assert seen["edited"]["inputs"] == 2 * 1120
    assert len(base64.b64decode(seen["edited"]["data"], validate=True)) > 1000


def test_a_generated_client_reads_a_refused_budget_as_a_typed_error(seen: dict[str, Any]) -> None:
    expected = {"status": 429, "code": "budget_exceeded", "policies": ["tenant-day-image_tokens"]}
    assert seen["refused"] == expected


def test_spectral_finds_nothing_in_the_document() -> None:
    tools = workshop.node_tools()
    ruleset = workshop.OPENAPI / "spectral.yaml"
    options = ["--ruleset", ruleset, "--fail-severity", "hint"]
    run([tools / "spectral", "lint", *options, workshop.document()], workshop.WORKSHOP)


def test_redocly_finds_nothing_in_the_document() -> None:
    tools = workshop.node_tools()
    options = ["--config", workshop.OPENAPI / "redocly.yaml", "--max-problems", "1000"]
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    run([tools / "redocly", "lint", *options, workshop.document()], workshop.WORKSHOP, **quiet)
