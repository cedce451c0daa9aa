"""What callers send is in no log and no metric of a real gateway, whatever becomes of it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import httpx2
from PIL import Image, PngImagePlugin

from app.domain.keys import ENTROPY_BYTES, mint
from tests.processes import HTTP, running_gateway
from tests.server.conftest import tokens_a_day, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running

CANARY = "canaryq7x"  # a word that could be a field's value, an id or a part of a path
PROMPT = f"A {CANARY} in a cage"
OUTCOMES = (
    "blocked-prompt", "image-safety", "text-only", "no-image", "invalid", "bad-key", "quota", "internal",
    "unavailable", "reset", "truncated", "broken-json",
)  # fmt: skip


def canary_png() -> str:
    """A picture with the canary among its own words, in base64."""
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", CANARY)
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(file, "PNG", pnginfo=words)
    return base64.b64encode(file.getvalue()).decode()


def bodies() -> Iterator[dict[str, Any]]:
    """The canary in every field, alone and with others, valid and not."""
    yield {"prompt": PROMPT, "labels": {CANARY: CANARY}}
    yield {"prompt": PROMPT, "system_instruction": PROMPT, "images": [{"data": canary_png()}]}
    for fault in OUTCOMES:
        yield {"prompt": f"{PROMPT} [[emulate:{fault}]]", "cache": "bypass"}
    for name in (
        "prompt", "model", "images", "documents", "videos", "aspect_ratio", "image_size", "n",
        "response_modalities", "output_mime_type", "output_compression_quality", "delivery", "temperature",
        "top_p", "top_k", "candidate_count", "seed", "max_output_tokens", "thinking_level",
        "system_instruction", "safety_settings", "grounding", "continue_from", "cache", "variant", "labels",
        "user",
        CANARY,
    ):  # fmt: skip
        yield {"prompt": PROMPT, name: CANARY}
        yield {"prompt": PROMPT, name: {CANARY: CANARY}}
        yield {
            "prompt": PROMPT,
            name: [{"data": CANARY, "uri": f"gs://{CANARY}/{CANARY}", "mime_type": CANARY}],
        }


def send_everything(gateway: Running, key: str) -> set[int]:
    """Every kind of request with the canary wherever a caller can write; the statuses that came back."""
    wrong = mint(CANARY[:8], bytes(ENTROPY_BYTES), CANARY).text
    odd = {"User-Agent": CANARY, "Cookie": f"{CANARY}={CANARY}", "traceparent": CANARY, CANARY: CANARY}
    statuses = set()
    with httpx2.Client(base_url=gateway.url, headers=odd, timeout=60) as client:

        def ask(method: str, path: str, **given: Any) -> None:
            headers = {"X-API-Key": key, **given.pop("headers", {})}
            try:
                statuses.add(client.request(method, path, headers=headers, **given).status_code)
            except httpx2.RemoteProtocolError:
                statuses.add(0)

        for body in bodies():
            ask("POST", "/v1/images:generate", json=body)
        ask("POST", "/v1/images:generate", content=PROMPT.encode())
        ask("POST", "/v1/images:generate", content=b"\xff" + CANARY.encode())
        ask("POST", "/v1/images:generate", json={"prompt": PROMPT}, headers={"X-API-Key": wrong})
        ask("POST", "/v1/images:generate", json={"prompt": PROMPT}, headers={"X-API-Key": CANARY})
        ask("POST", f"/v1/images:generate?key={key}&{CANARY}={CANARY}", json={"prompt": PROMPT})
        for name in (
            "Accept",
            "Cache-Control",
            "Content-Type",
            "Idempotency-Key",
            "X-Request-Timeout",
            "Prefer",
        ):
            ask("POST", "/v1/images:generate", json={"prompt": PROMPT}, headers={name: CANARY})
        ask(
            "POST",
            "/v1/images:edit",
            data={"prompt": PROMPT},
            files={"image": (CANARY, CANARY.encode(), CANARY)},
        )
        for path in (f"/v1/images/{CANARY}", f"/v1/models/{CANARY}", f"/{CANARY}", f"/v1/{CANARY}/{CANARY}"):
            ask("GET", path)
            ask(CANARY.upper(), path)
    return statuses


def test_nothing_a_caller_sends_reaches_the_log_or_the_metrics(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    ample = tokens_a_day(10_000_000)
    tenants = write_tenants(tmp_path / "tenants.yaml", {"another": ample, "watched": ample})
    key = tenants.keys["watched"]
    watched = {**settings, "tenants_file": str(tenants.path), "log_level": "debug"}
    with running_gateway(tmp_path / "gateway", **watched) as gateway:
        statuses = send_everything(gateway, key)
        metrics = HTTP.get(gateway.metrics_url).text
    (log,) = (tmp_path / "gateway").glob("*.log")  # whole, because the process has ended
    text = log.read_text()
    assert {200, 401, 404, 422, 429, 502, 503} <= statuses
    for code in ("content_blocked", "model_refused", "upstream_quota", "upstream_error", "validation_failed"):
        assert f'outcome="{code}"' in metrics
        assert f'"outcome": "{code}"' in text
    for sink in (text, metrics):
        assert CANARY not in sink.lower()
        assert key not in sink
        assert key.split("_")[3] not in sink
