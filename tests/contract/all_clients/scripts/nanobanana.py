"""A nanobanana MCP server, as a child process, asked by an MCP client."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from asking import ask
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

url, key, file = sys.argv[1:]


async def call(**arguments: object) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "HOME": folder, "GEMINI_API_KEY": key, "GEMINI_BASE_URL": f"{url}/gemini",
            "IMAGE_OUTPUT_DIR": folder, "RETURN_FULL_IMAGE": "true",
        }  # fmt: skip
        command = str(Path(sys.executable).with_name("nanobanana-mcp-server"))
        async with Client(StdioTransport(command, [], env=environment)) as client:
            answer = await client.call_tool("generate_image", {"model_tier": "nb2", **arguments})
    pictures = [each.data for each in answer.content if each.type == "image"]
    if not pictures:
        raise RuntimeError(" ".join(each.text for each in answer.content if each.type == "text"))
    return pictures


def draw(**arguments: object) -> list[str]:
    return asyncio.run(call(resolution="1k", aspect_ratio="16:9", enable_grounding=False, **arguments))


ask(
    {
        "generate": lambda: draw(prompt="A fox"),
        "edit": lambda: draw(prompt="Make it blue", input_image_path_1=file, mode="edit"),
        "four": lambda: draw(prompt="Four foxes", n=4),
        "invalid": lambda: draw(prompt="A wolf [[emulate:blocked-prompt]]"),
    }
)
