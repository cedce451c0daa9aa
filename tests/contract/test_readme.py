"""The README's snippets, run as they stand but for the address and the key."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google import genai
from openai import OpenAI

from tests.contract.conftest import run_in

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


def test_node_draws_after_the_change_of_one_line(
    node_folder: Path, tmp_path: Path, gateway: Running, tenants: Tenants
) -> None:
    line = after("js", "GoogleGenAI").replace("http://127.0.0.1:8080", gateway.url)
    script = tmp_path / "readme.mjs"
    script.write_text(
        'import { GoogleGenAI } from "@google/genai";\n'
        f'const KEY = "{tenants.keys["counted"]}";\n{line}\n'
        'const asked = { model: "gemini-3.1-flash-image", contents: "From the README" };\n'
        "const { candidates } = await ai.models.generateContent(asked);\n"
        "console.log(JSON.stringify(candidates[0].content));\n"
    )
    pictures = [part for part in run_in(node_folder, script)["parts"] if "inlineData" in part]
    assert base64.b64decode(pictures[0]["inlineData"]["data"]).startswith(b"\xff\xd8")
