"""OpenAI's Node SDK against the gateway, where there are Node and its packages."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.fixtures import image_path

if TYPE_CHECKING:
    from tests.processes import Running
    from tests.server.conftest import Tenants

SDK = "openai@6.49.0"
SCRIPT = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the tree with the SDK in it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", SDK]
    try:
        installed = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{SDK} could not be installed within a minute")
    if installed.returncode:
        pytest.skip(f"{SDK} cannot be installed here: {installed.stderr.strip()[-200:]}")
    shutil.copy(SCRIPT, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path, gateway: Running, tenants: Tenants) -> dict[str, Any]:
    """What the script saw."""
    arguments = [f"{gateway.url}/openai/v1", tenants.keys["openai-node"], tenants.keys["poor"]]
    files = [str(image_path("harbour.png")), str(image_path("orchard.webp"))]
    command = ["node", SCRIPT.name, *arguments, *files]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_node_generates_several_pictures(found: dict[str, Any]) -> None:
    made = found["made"]
    assert made["size"] == "632x424"
    assert len(set(made["b64"])) == 2
    assert all(base64.b64decode(text, validate=True) for text in made["b64"])
    assert made["usage"]["output_tokens_details"]["image_tokens"] == 2 * 747


def test_node_reads_the_same_pictures_from_a_stream(found: dict[str, Any]) -> None:
    expected = [["image_generation.completed", "632x424", text] for text in found["made"]["b64"]]
    assert found["streamed"] == expected


def test_node_edits_two_references(found: dict[str, Any], tenants: Tenants) -> None:
    assert found["edited"]["images"] == 2 * 1120
    answer = httpx2.get(found["edited"]["url"], headers={"X-API-Key": tenants.keys["openai-node"]})
    assert answer.headers["content-type"].startswith("image/")


def test_node_lists_the_models(found: dict[str, Any]) -> None:
    assert "gemini-3.1-flash-image" in found["models"]


@pytest.mark.parametrize(
    ("case", "name", "status", "code", "param"),
    [
        ("invalid", "BadRequestError", 400, "invalid_value", "size"),
        ("unknown", "NotFoundError", 404, "model_not_found", "model"),
        ("blocked", "BadRequestError", 400, "moderation_blocked", None),
        ("billed", "InternalServerError", 502, "upstream_error", None),
        ("budget", "RateLimitError", 429, "insufficient_quota", None),
        ("key", "AuthenticationError", 401, "invalid_api_key", None),
    ],
)
def test_node_knows_an_error_and_asks_once(
    found: dict[str, Any], case: str, name: str, status: int, code: str, param: str | None
) -> None:
    seen = found[case]
    assert (seen["name"], seen["status"], seen["code"], seen["param"]) == (name, status, code, param)
    assert seen["requests"] == 1
