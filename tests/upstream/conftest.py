"""A server that answers what a test says, and the model that calls it."""

from __future__ import annotations

import base64
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from app.cards import load_catalogue
from app.domain.request import GenerationRequest, Input
from app.generation.ports import Call
from app.upstream.google.backend import BackEnd
from app.upstream.google.client import GoogleImageModel
from tests.upstream.server import Upstream, png, upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = "gemini-3.1-flash-image"
PNG = png(8, 4)
USAGE = {
    "promptTokenCount": 305,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 47}, {"modality": "IMAGE", "tokenCount": 258}],
    "candidatesTokenCount": 1602,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    "totalTokenCount": 1907,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _running() -> AsyncIterator[tuple[Upstream, GoogleImageModel]]:
    """One server and one model a module: opening the SDK takes a while."""
    async with upstream() as running, calling(running.url) as opened:
        yield running, opened


@pytest.fixture
def server(_running: tuple[Upstream, GoogleImageModel]) -> Upstream:
    _running[0].received.clear()
    return _running[0]


@pytest.fixture
def model(_running: tuple[Upstream, GoogleImageModel]) -> GoogleImageModel:
    return _running[1]


@asynccontextmanager
async def calling(url: str, kind: Any = "emulator", **options: Any) -> AsyncIterator[GoogleImageModel]:
    """The model, on a back end at this address."""
    back_end = BackEnd(kind, base_url=url, api_key=None if kind == "emulator" else "the-key")
    async with GoogleImageModel(back_end, load_catalogue(), **options) as opened:
        yield opened


def asked(*images: bytes, **fields: Any) -> GenerationRequest:
    """A valid request for a picture of a cat, with reference images."""
    inputs = tuple(
        Input("image", f"/images/{index}", data=data, mime_type="image/png")
        for index, data in enumerate(images)
    )
    return GenerationRequest(**{"model": MODEL, "prompt": "a cat", "images": inputs, **fields})


def lasting(timeout_s: float) -> Call:
    """A call of some tenant that may take so long."""
    return Call("a-tenant", timeout_s)


def part(data: bytes = PNG, **more: Any) -> dict[str, Any]:
    """A part of an answer with a picture in it."""
    text = base64.b64encode(data).decode()
    return {"inlineData": {"mimeType": "image/png", "data": text}, **more}


def answer(*parts: Any, **more: Any) -> dict[str, Any]:
    """A good answer in Google's shape."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP", "index": 0}
    return {
        "candidates": [{**candidate, **more}],
        "usageMetadata": USAGE,
        "modelVersion": f"{MODEL}-001",
        "responseId": "response-1",
    }


def large_png(size: int) -> bytes:
    """A PNG of about so many bytes that nothing can compress."""
    return png(8, 4, os.urandom(size))
