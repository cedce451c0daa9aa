"""Service tiers: estimated at the price of the requested one; without a price, refused in every dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running
from tests.server.conftest import Tenants, calls_of

if TYPE_CHECKING:
    import httpx2

FLASH, NEXT = "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
HEADER = "X-Vertex-AI-LLM-Shared-Request-Type"


def estimate(gateway: Running, key: str, **fields: Any) -> dict[str, Any]:
    body = {"prompt": "A fox", "image_size": "1K", **fields}
    answer = HTTP.post(f"{gateway.url}/v1/images:estimate", json=body, headers={"X-API-Key": key})
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    ("tier", "share"), [(None, 1.0), ("standard", 1.0), ("flex", 0.5), ("priority", 1.8)]
)
def test_an_estimate_has_the_price_of_the_requested_tier_and_the_worst_the_highest(
    gateway: Running, tenants: Tenants, tier: str | None, share: float
) -> None:
    key = tenants.keys["own"]
    plain, of_tier = estimate(gateway, key), estimate(gateway, key, service_tier=tier)
    assert of_tier["estimate"]["service_tier"] == (tier or "standard")
    expected = plain["estimate"]["cost_usd"] * share
    assert of_tier["estimate"]["cost_usd"] == pytest.approx(expected, abs=1e-9)
    most = plain["worst"]["cost_usd"] * max(1.0, share)
    assert of_tier["worst"]["cost_usd"] == pytest.approx(most, abs=1e-8)


def by_vertex(
    gateway: Running, key: str, model: str, header: str, body_tier: str | None = None
) -> httpx2.Response:
    body: dict[str, Any] = {"contents": [{"parts": [{"text": "A fox"}]}]}
    if body_tier is not None:
        body["serviceTier"] = body_tier
    path = f"/gemini/v1beta1/publishers/google/models/{model}:generateContent"
    return HTTP.post(gateway.url + path, json=body, headers={"X-API-Key": key, HEADER: header})


@pytest.mark.parametrize(
    ("model", "header", "body_tier", "words"),
    [
        (NEXT, "flex", None, "The price of this service tier is not known"),
        (FLASH, "express", None, "names an unknown service tier. Accepted: standard, flex, priority"),
        (FLASH, "flex", "priority", "asks for another service tier than the body"),
    ],
)
def test_a_tier_in_vertex_ais_header_is_judged_like_one_in_the_body(
    gateway: Running,
    emulator: Running,
    tenants: Tenants,
    model: str,
    header: str,
    body_tier: str | None,
    words: str,
) -> None:
    before = calls_of(emulator)
    refused = by_vertex(gateway, tenants.keys["own"], model, header, body_tier)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert calls_of(emulator) == before


@pytest.mark.parametrize("header", ["flex", "PRIORITY", "standard"])
def test_a_tier_in_vertex_ais_header_is_taken(gateway: Running, tenants: Tenants, header: str) -> None:
    assert by_vertex(gateway, tenants.keys["own"], FLASH, header).status_code == 200
