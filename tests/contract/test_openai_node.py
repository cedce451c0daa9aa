"""OpenAI's Node SDK against the gateway, where there are Node and its packages."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.contract.conftest import Gate, run_in
from tests.fixtures import image_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Running
    from tests.server.conftest import Tenants

SCRIPT = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture(scope="module")
def found(
    node_folder: Path, gateway: Running, tenants: Tenants, emulator: Running
) -> Iterator[dict[str, Any]]:
    """What the script saw."""
    keys, gate = [tenants.keys[name] for name in ("openai-node", "poor")], secrets.token_hex(6)
    files = [str(image_path(name)) for name in ("harbour.png", "orchard.webp")]
    yield run_in(node_folder, SCRIPT, f"{gateway.url}/openai/v1", *keys, emulator.url, gate, *files)
    Gate(emulator, gate).open()


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


def test_node_sends_the_picture_back_for_three_turns(found: dict[str, Any]) -> None:
    assert len(set(found["turns"])) == 3


def test_four_of_node_at_once_are_four_pictures_and_asking_again_draws_a_fifth(found: dict[str, Any]) -> None:
    assert len(set(found["together"])) == 5


def test_what_node_repeats_after_its_timeout_is_paid_once(found: dict[str, Any]) -> None:
    assert found["retried"] == {"pictures": 1, "calls": 1}


def test_what_node_cancelled_is_paid_once_and_found_later(found: dict[str, Any], emulator: Running) -> None:
    assert (found["left"], found["later"]) == ("APIUserAbortError", 1)


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
