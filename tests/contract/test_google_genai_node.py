"""Google's Node SDK against the gateway, where there are Node and its packages."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.conftest import Gate, run_in
from tests.fixtures import image_path
from tests.server.conftest import calls_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running
    from tests.server.conftest import Tenants

SCRIPT = Path(__file__).with_name("google_genai_node.mjs")


@pytest.fixture(scope="module")
def found(
    node_folder: Path, gateway: Running, tenants: Tenants, emulator: Running
) -> Iterator[dict[str, Any]]:
    """What the script saw, and how many pictures the emulator was asked for meanwhile."""
    keys, gate = [tenants.keys[name] for name in ("gemini", "poor")], secrets.token_hex(6)
    files = [str(image_path(name)) for name in ("harbour.png", "orchard.webp")]
    calls = calls_of(emulator)
    seen = run_in(node_folder, SCRIPT, f"{gateway.url}/gemini", *keys, emulator.url, gate, *files)
    yield {**seen, "calls": calls_of(emulator) - calls}
    Gate(emulator, gate).open()


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


def test_node_edits_two_references_and_sees_the_thoughts(found: dict[str, Any]) -> None:
    assert found["edited"]["thoughts"] == [True, True, False]
    assert {"modality": "IMAGE", "tokenCount": 2 * 1120} in found["edited"]["read"]


def test_node_counts_tokens(found: dict[str, Any]) -> None:
    assert found["counted"] == 7


def test_what_node_cancelled_is_made_once_and_found_later(found: dict[str, Any]) -> None:
    assert (found["left"], found["later"]) == ("AbortError", 1)
    made, turns, edited, together, blocked, left = 1, 3, 1, 5, 1, 1
    assert found["calls"] == made + turns + edited + together + blocked + left


def test_four_of_node_at_once_are_four_pictures_and_asking_again_draws_a_fifth(found: dict[str, Any]) -> None:
    assert len(set(found["together"])) == 5


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
