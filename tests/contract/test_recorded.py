"""What the SDKs send is written down: the installed ones still send it, and the gateway serves it.

A change of an SDK is a difference here. ``FLASHGATE_RECORD=1`` writes down what they send now.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google import genai
from google.genai import types
from openai import OpenAI

from tests.contract.conftest import run_in
from tests.contract.recorder import BOUNDARY, FOLDER, KEY, PICTURE, recorder
from tests.contract.test_google_genai import MODEL, NO_TLS

if TYPE_CHECKING:
    from tests.processes import Running
    from tests.server.conftest import Tenants

SCRIPT = Path(__file__).with_name("recorded.mjs")
OF_NODE = (
    "node-gemini-count",
    "node-gemini-everything",
    "node-vertex-everything",
    "node-gemini-stream",
    "node-openai-edit",
    "node-openai-everything",
    "node-openai-stream",
)
EVERYTHING = types.GenerateContentConfig(
    system_instruction="Be calm",
    safety_settings=[
        types.SafetySetting(
            category=types.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
            threshold=types.HarmBlockThreshold.BLOCK_ONLY_HIGH,
        )
    ],
    tools=[
        types.Tool(
            google_search=types.GoogleSearch(
                search_types=types.SearchTypes(web_search=types.WebSearch(), image_search=types.ImageSearch())
            )
        )
    ],
    labels={"team": "a"},
    service_tier=types.ServiceTier.FLEX,
    temperature=0.5,
    top_p=0.9,
    max_output_tokens=8000,
    seed=7,
    response_modalities=["TEXT", "IMAGE"],
    thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH),
    image_config=types.ImageConfig(aspect_ratio="16:9", image_size="512"),
    http_options=types.HttpOptions(timeout=60_000),
)


def ask_as_google(url: str) -> tuple[str, ...]:
    """Ask with Google's Python SDK; the names of what it sends."""
    picture = types.Part.from_bytes(data=PICTURE.read_bytes(), mime_type="image/png")
    drawn: list[Any] = ["Draw it", picture]
    counted: list[Any] = [picture, "How many?"]
    names = []
    for mode in ("gemini", "vertex"):
        options = types.HttpOptions(base_url=url, client_args={"verify": NO_TLS})
        client = genai.Client(vertexai=mode == "vertex", api_key=KEY, http_options=options)
        client.models.generate_content(model=MODEL, contents=drawn, config=EVERYTHING)
        client.models.generate_content(model=MODEL, contents="A fox")
        list(client.models.generate_content_stream(model=MODEL, contents="A fox"))
        client.models.count_tokens(model=MODEL, contents=counted)
        client.close()
        names += [f"python-{mode}-{what}" for what in ("everything", "words", "stream", "count")]
    return tuple(names)


def ask_as_openai(url: str) -> tuple[str, ...]:
    """Ask with OpenAI's Python SDK; the names of what it sends."""
    data = PICTURE.read_bytes()
    with OpenAI(base_url=url, api_key=KEY) as client:
        client.images.generate(
            model=MODEL, prompt="A fox", n=2, size="512x512", quality="low", response_format="b64_json",
            user="u", extra_body={"seed": 7, "labels": {"team": "search"}},
        )  # fmt: skip
        for _ in client.images.generate(model=MODEL, prompt="A fox", quality="low", stream=True):
            pass
        client.images.edit(model=MODEL, prompt="Draw it", image=io.BytesIO(data), quality="low")
        client.images.edit(
            model=MODEL, prompt="Draw it", quality="low", extra_body={"labels": {"team": "search"}},
            image=[("first.png", data, "image/png"), ("second", data)],
        )  # fmt: skip
    return tuple(f"python-openai-{what}" for what in ("everything", "stream", "edit-one", "edit"))


def _kept(kind: str) -> dict[str, Any]:
    path = FOLDER / f"{kind}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def compare(kind: str, names: tuple[str, ...], seen: list[dict[str, Any]]) -> None:
    """What was seen is what is kept; or it is kept from now on."""
    found = dict(zip(names, seen, strict=True))
    if os.environ.get("FLASHGATE_RECORD"):
        (FOLDER / f"{kind}.json").write_text(json.dumps(found, indent=1) + "\n")
    assert found == _kept(kind)


RECORDED = {name: kept for kind in ("google", "openai", "node") for name, kept in _kept(kind).items()}


def test_googles_python_sdk_sends_what_is_recorded() -> None:
    with recorder() as (url, seen):
        names = ask_as_google(url)
    compare("google", names, seen)


def test_openais_python_sdk_sends_what_is_recorded() -> None:
    with recorder() as (url, seen):
        names = ask_as_openai(url)
    compare("openai", names, seen)


def test_nodes_sdks_send_what_is_recorded(node_folder: Path) -> None:
    with recorder() as (url, seen):
        run_in(node_folder, SCRIPT, url, KEY, str(PICTURE))
    compare("node", OF_NODE, seen)


def build_form(parts: list[dict[str, Any]]) -> bytes:
    """A recorded form as bytes again."""
    pieces = []
    for part in parts:
        disposition = f'form-data; name="{part["name"]}"'
        if part["filename"] is not None:
            disposition += f'; filename="{part["filename"]}"'
        kind = "" if part["type"] is None else f"Content-Type: {part['type']}\r\n"
        head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{kind}\r\n".encode()
        data = (FOLDER / part["file"]).read_bytes() if "file" in part else part["text"].encode()
        pieces.append(head + data + b"\r\n")
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request_is_served(gateway: Running, tenants: Tenants, name: str) -> None:
    recorded = RECORDED[name]
    surface, key = ("/openai/v1" if "-openai-" in name else "/gemini"), tenants.keys["gemini"]
    headers = {name: value.replace("KEY", key) for name, value in recorded["headers"].items()}
    assert key in "".join(headers.values()), "the SDK shows its key"
    form = recorded.get("form")
    content = json.dumps(recorded["body"]).encode() if form is None else build_form(form)
    url = f"{gateway.url}{surface}{recorded['path']}"
    answer = httpx2.post(url, content=content, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    if "stream" in name:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return
    expected = {"totalTokens"} if "count" in name else {"data"} if surface == "/openai/v1" else {"candidates"}
    assert answer.json().keys() >= expected
