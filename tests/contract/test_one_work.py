"""The same seeded work asked at once in three dialects is one call, and everybody gets its picture."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2

from tests.contract.test_google_genai import MODEL
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from tests.contract.conftest import Gate
    from tests.processes import Running


def waiting(gateway: Running) -> int:
    """Requests that wait for the result of another."""
    name = 'flashgate_in_flight{stage="waiting"} '
    lines = httpx2.get(gateway.metrics_url).text.splitlines()
    return round(sum(float(line.removeprefix(name)) for line in lines if line.startswith(name)))


def test_work_in_flight_is_shared_across_dialects(
    gateway: Running, tenants: Tenants, gate: Gate, emulator: Running
) -> None:
    native = Client(gateway.url, tenants.keys["gemini"])
    prompt, calls, before = f"At once {gate.word}", calls_of(emulator), native.budget()["settled"]
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512"}, "seed": 7}
    asked: dict[str, dict[str, Any]] = {
        "/v1/images:generate": {"prompt": prompt, "image_size": "512", "seed": 7},
        f"/gemini/v1beta/models/{MODEL}:generateContent": {
            "contents": [{"parts": [{"text": prompt}]}], "generationConfig": config,
        },
        "/openai/v1/images/generations": {"prompt": prompt, "quality": "low", "seed": 7},
    }  # fmt: skip

    def ask(path: str) -> Any:
        headers = {"X-API-Key": native.key}
        return httpx2.post(gateway.url + path, json=asked[path], headers=headers, timeout=60).json()

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ask, path) for path in asked]
        try:
            wait_for(lambda: waiting(gateway) == 2, "two wait for the third")
        finally:
            gate.open()
        first, second, third = (answer.result() for answer in answers)
    (blob,) = [
        part["inlineData"] for part in second["candidates"][0]["content"]["parts"] if "inlineData" in part
    ]
    texts = {first["images"][0]["data"], blob["data"], third["data"][0]["b64_json"]}
    assert len(texts) == 1
    assert base64.b64decode(texts.pop()).startswith(b"\xff\xd8")
    assert calls_of(emulator) - calls == 1
    assert native.budget()["settled"] - before == 747
