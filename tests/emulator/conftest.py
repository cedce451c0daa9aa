"""A real emulator on a real port, and clients that speak to it."""

from __future__ import annotations

import base64
import io
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from PIL import Image

from app.cards import load_catalogue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.domain.card import Card

MODEL = "gemini-3.1-flash-image"
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"
VERTEX = f"/v1beta1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent"
EXPRESS = f"/v1beta1/publishers/google/models/{MODEL}:generateContent"
DIALECTS = {"gemini": GENERATE, "vertex": VERTEX, "express": EXPRESS}
_START_S = 30
# Everything here is plain HTTP, and loading the certificates that nobody asks for takes 80 ms a client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The base URL of an emulator that is stopped by SIGTERM at the end, and must then end well."""
    listening = socket.create_server(("127.0.0.1", 0))
    descriptor = listening.fileno()
    command = [sys.executable, "-m", "app.emulator", "--fd", str(descriptor), "--die-with-parent"]
    with subprocess.Popen(command, pass_fds=(descriptor,)) as process:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.close()
        httpx2.get(f"{url}/emulator/calls", timeout=_START_S, verify=NO_TLS).raise_for_status()
        yield url
        process.terminate()
        assert process.wait(_START_S) == 0


@pytest.fixture
async def client(emulator: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a key."""
    headers = {"x-goog-api-key": "a-key"}
    async with httpx2.AsyncClient(base_url=emulator, headers=headers, timeout=30, verify=NO_TLS) as opened:
        yield opened


@pytest.fixture(scope="session")
def card() -> Card:
    """The seed's card."""
    found = load_catalogue().resolve(MODEL)
    assert found is not None
    return found


def asking(prompt: str, /, *images: tuple[str, bytes], **config: Any) -> dict[str, Any]:
    """A request's JSON: a prompt, (MIME type, bytes) pairs, and ``generationConfig``."""
    parts: list[dict[str, Any]] = [{"text": prompt}]
    for mime_type, data in images:
        parts.append({"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}})
    config.setdefault("responseModalities", ["IMAGE"])
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def small(prompt: str, /, *images: tuple[str, bytes], **config: Any) -> dict[str, Any]:
    """The same at 512, which is the cheapest to draw."""
    return asking(prompt, *images, imageConfig={"imageSize": "512"}, **config)


def pictures(answer: dict[str, Any], *, thoughts: bool = False) -> list[Image.Image]:
    """The delivered pictures of an answer, or those in its thoughts."""
    return [
        Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"], validate=True)))
        for part in answer["candidates"][0]["content"].get("parts", [])
        if "inlineData" in part and part.get("thought", False) == thoughts
    ]
