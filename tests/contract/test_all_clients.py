"""Clients that are too heavy for the suite: what they send is recorded, and served here.

``make clients-all`` installs the clients themselves: they draw with a running gateway, and still send what is
recorded. ``FLASHGATE_RECORD=1`` writes down what they send now.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from app.media.inspection import inspect
from tests.contract.all_clients.workshop import PROMPTS, RECORDED, SCRIPTS, install, record_client, run_client
from tests.contract.tap import tapped
from tests.contract.test_recorded import build_form
from tests.processes import HTTP, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from tests.contract.tap import Tap
    from tests.processes import Running
    from tests.server.conftest import Tenants

KEPT: dict[str, dict[str, list[dict[str, Any]]]] = {}
if RECORDED.exists():
    KEPT = json.loads(RECORDED.read_text())

CLIENTS = list(SCRIPTS)
LOST = {
    "generationConfig.candidateCount": "a call draws one picture, and one is the default",
    "generationConfig.topK": "the model has none, and says so in a notice",
    "model": "it stands in the path",
    "systemInstruction.role": "Google does not read it",
}
"""Members that need not reach the upstream, and why."""

ASKED_OF_OPENAI = {"imageSize": "512", "aspectRatio": "1:1"}


def post(url: str, key: str, recorded: dict[str, Any], **changes: Any) -> httpx2.Response:
    """Send a recorded request with another key."""
    headers = {name: value.replace("KEY", key) for name, value in recorded["headers"].items()}
    path = recorded["path"].replace("KEY", key)
    assert key in path + "".join(headers.values()), "the client shows its key"
    if "form" in recorded:
        content = build_form(recorded["form"])
    else:
        content = json.dumps({**recorded["body"], **changes}).encode()
    return HTTP.post(f"{url}{path}", content=content, headers=headers, timeout=60)


def find_pictures(answer: Any) -> list[bytes]:
    """Every picture in an answer of either dialect."""
    if "data" in answer:
        texts = [each["b64_json"] for each in answer["data"]]
    else:
        parts = answer["candidates"][0]["content"]["parts"]
        texts = [part["inlineData"]["data"] for part in parts if "inlineData" in part]
    return [base64.b64decode(text, validate=True) for text in texts]


def check_picture(data: bytes) -> None:
    facts = inspect(data, pixels_max=10**9)
    assert not facts.faults
    assert facts.mime_type in {"image/jpeg", "image/png", "image/webp"}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("question", ["generate", "edit"])
def test_a_recorded_request_is_drawn(client: str, question: str, gateway: Running, tenants: Tenants) -> None:
    [recorded] = KEPT[client][question]
    answer = post(gateway.url, tenants.keys["gemini"], recorded)
    assert answer.status_code == 200, answer.text
    [picture] = find_pictures(answer.json())
    check_picture(picture)


@pytest.mark.parametrize("client", CLIENTS)
def test_four_recorded_pictures_are_four(client: str, gateway: Running, tenants: Tenants) -> None:
    requests = KEPT[client]["four"]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda each: post(gateway.url, tenants.keys["gemini"], each), requests))
    assert [answer.status_code for answer in answers] == [200] * len(requests)
    pictures = [picture for answer in answers for picture in find_pictures(answer.json())]
    assert (len(pictures), len(set(pictures))) == (4, 4)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_recorded_request_beyond_the_budget_is_refused_in_words(
    client: str, gateway: Running, tenants: Tenants
) -> None:
    [recorded] = KEPT[client]["generate"]
    for _ in range(3):  # the budget is 1120
        answer = post(gateway.url, tenants.keys["recorded"], recorded)
    assert answer.status_code == 429
    assert "image tokens" in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def tap(
    emulator: Running, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tap, Running]]:
    """What reaches the upstream, and a gateway before it."""
    with tapped(emulator.url) as opened:
        own = {**settings, "emulator_base_url": opened.url}
        with running_gateway(tmp_path_factory.mktemp("tapped"), **own) as gateway:
            yield opened, gateway


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("question", ["generate", "edit"])
def test_no_parameter_is_lost_on_the_way(
    client: str, question: str, tap: tuple[Tap, Running], tenants: Tenants
) -> None:
    """Each member of a body in Google's format arrives; of one in OpenAI's, what it means."""
    opened, gateway = tap
    [recorded] = KEPT[client][question]
    before = len(opened.calls)
    assert post(gateway.url, tenants.keys["gemini"], recorded).status_code == 200
    [call] = opened.calls[before:]
    arrived = set(list_leaves(call.body))
    if "/images/" not in recorded["path"]:
        asked = set(list_leaves(recorded["body"]))
        assert {path for path, _ in asked} & {"contents.parts.text"}
        lost = {(path, value) for path, value in asked - arrived if path not in LOST}
        assert not lost, f"{sorted(lost)} of {sorted(arrived)}"
        return
    sent = recorded.get("body") or {part["name"]: part.get("text") for part in recorded["form"]}
    known = {"model", "prompt", "n", "size", "quality", "response_format", "image", "image[]"}
    assert sent.keys() <= known, "a further field needs an expectation of its own"
    assert ("contents.parts.text", sent["prompt"]) in arrived
    assert sent["size"] == "512x512"
    for name, value in ASKED_OF_OPENAI.items():
        assert (f"generationConfig.imageConfig.{name}", value) in arrived
    assert (question == "edit") == any(path.endswith("inlineData.data") for path, _ in arrived)


def list_leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf with its path, in one spelling: camelCase, words in capitals, bytes decoded, no indices."""
    if isinstance(value, dict):
        for name, item in value.items():
            camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
            yield from list_leaves(item, f"{path}.{camel}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from list_leaves(item, path)
    elif path == "systemInstruction" or not path.endswith((".data", ".text")):
        yield path, _spell(path, value)
    elif path.endswith(".data"):
        yield path, binascii.hexlify(base64.b64decode(value.replace("-", "+").replace("_", "/"))).decode()
    else:
        yield path, str(value)


ENUMS = {
    "HARM_CATEGORY_HATE_SPEECH": {"8", "1"},
    "BLOCK_ONLY_HIGH": {"3"},
}


def _spell(path: str, value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    if path.startswith("safetySettings."):
        return next((word for word, numbers in ENUMS.items() if text in numbers), text.upper())
    return text.upper() if "." in path and not path.endswith("imageSize") else text


def test_the_scripts_are_those_that_are_recorded() -> None:
    assert list(KEPT) == CLIENTS
    assert all(requests.keys() == PROMPTS.keys() for requests in KEPT.values())


with_clients = pytest.mark.skipif(
    not os.environ.get("FLASHGATE_CLIENTS"), reason="installs hundreds of packages: make clients-all"
)


@pytest.fixture(scope="session")
def installed() -> None:
    install()


@with_clients
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_draws_edits_and_shows_errors(
    client: str, installed: None, gateway: Running, tenants: Tenants
) -> None:
    found = run_client(client, gateway.url, tenants.keys["gemini"])
    for question, count in {"generate": 1, "edit": 1, "four": 4}.items():
        pictures = [base64.b64decode(text, validate=True) for text in found[question]]
        assert (len(pictures), len(set(pictures))) == (count, count), (
            f"{question}: {str(found[question])[:500]}"
        )
        for picture in pictures:
            check_picture(picture)
    # The MCP server shows a sentence of its own, whatever it was told.
    shown = r"size|not found|No images were generated"
    assert re.search(shown, found["invalid"]["error"]), found["invalid"]


@with_clients
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_sends_what_is_recorded(client: str, installed: None) -> None:
    sent = record_client(client)
    if os.environ.get("FLASHGATE_RECORD"):
        kept = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        kept[client] = sent
        ordered = {name: kept[name] for name in CLIENTS if name in kept}
        RECORDED.write_text(json.dumps(ordered, indent=1) + "\n")
    assert sent == json.loads(RECORDED.read_text())[client]
