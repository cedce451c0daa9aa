"""The README's snippets, run as they stand but for the address and the key."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google import genai
from openai import OpenAI

if TYPE_CHECKING:
    from tests.processes import Running
    from tests.server.conftest import Tenants

README = (Path(__file__).parents[2] / "README.md").read_text()


def after(language: str, name: str) -> str:
    """The line of a snippet that is marked ``after`` and names the client."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if name in line]
    found = [line for line in lines if line.rstrip().endswith("after")]
    assert len(found) == 1
    return re.split(r"\s+(?:#|//) after", found[0])[0]


def client_of(line: str, gateway: Running, tenants: Tenants) -> Any:
    """What the line makes, for this gateway."""
    names: dict[str, Any] = {"genai": genai, "OpenAI": OpenAI, "KEY": tenants.keys["counted"]}
    exec(line.replace("http://127.0.0.1:8080", gateway.url), names)  # noqa: S102 - our own README
    return names["client"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_google_genai_draws_after_the_change_of_one_line(gateway: Running, tenants: Tenants) -> None:
    client = client_of(after("python", "genai.Client"), gateway, tenants)
    answer = client.models.generate_content(model="gemini-3.1-flash-image", contents="From the README")
    pictures = [part.inline_data for part in answer.candidates[0].content.parts if part.inline_data]
    assert [picture.data[:2] for picture in pictures] == [b"\xff\xd8"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_openai_draws_after_the_change_of_one_line(gateway: Running, tenants: Tenants) -> None:
    client = client_of(after("python", "OpenAI"), gateway, tenants)
    with client:
        answer = client.images.generate(model="gemini-3.1-flash-image", prompt="From the README")
    assert base64.b64decode(answer.data[0].b64_json).startswith(b"\xff\xd8")


def test_the_line_for_node_names_the_same_address() -> None:
    assert 'baseUrl: "http://127.0.0.1:8080/gemini"' in after("js", "GoogleGenAI")
