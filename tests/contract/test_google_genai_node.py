"""Google's Node SDK against the gateway, where there are Node and its packages."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures import image_path

if TYPE_CHECKING:
    from tests.processes import Running
    from tests.server.conftest import Tenants

SDK = "@google/genai@3.1.0"
SCRIPT = Path(__file__).with_name("google_genai_node.mjs")


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
    arguments = [f"{gateway.url}/gemini", tenants.keys["gemini"], tenants.keys["poor"]]
    command = ["node", SCRIPT.name, *arguments, str(image_path("harbour.png"))]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


@pytest.mark.parametrize("mode", ["gemini", "vertex"])
def test_node_generates_streams_and_converses(found: dict[str, Any], mode: str) -> None:
    seen = found[mode]
    assert len(seen["made"]) == 1
    assert base64.b64decode(seen["made"][0], validate=True)
    assert seen["streamed"] == seen["made"]
    assert seen["usage"]["candidatesTokensDetails"] == [{"modality": "IMAGE", "tokenCount": 747}]
    assert len(set(seen["turns"])) == 3


def test_both_modes_of_node_are_the_same_work(found: dict[str, Any]) -> None:
    assert found["gemini"]["made"] == found["vertex"]["made"]
    assert found["gemini"]["turns"] == found["vertex"]["turns"]


def test_node_edits_and_sees_the_thoughts(found: dict[str, Any]) -> None:
    assert found["edited"] == [True, True, False]


def test_node_lists_the_models(found: dict[str, Any]) -> None:
    assert "models/gemini-3.1-flash-image" in found["models"]


def test_a_blocked_prompt_is_no_error_in_node(found: dict[str, Any]) -> None:
    assert found["blocked"] == {"blockReason": "PROHIBITED_CONTENT"}


@pytest.mark.parametrize(
    ("case", "status", "word", "detail"),
    [
        ("invalid", 400, "INVALID_ARGUMENT", "BadRequest"),
        ("budget", 429, "RESOURCE_EXHAUSTED", "QuotaFailure"),
        ("key", 400, "INVALID_ARGUMENT", "ErrorInfo"),
    ],
)
def test_node_knows_an_error(found: dict[str, Any], case: str, status: int, word: str, detail: str) -> None:
    seen = found[case]
    assert (seen["name"], seen["status"], seen["error"]["status"]) == ("ApiError", status, word)
    assert seen["error"]["details"][0]["@type"] == f"type.googleapis.com/google.rpc.{detail}"
