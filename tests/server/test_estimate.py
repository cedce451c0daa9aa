"""A quote tells what a request would cost and whether it would be served, and spends nothing."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP
from tests.server.conftest import Client, Tenants, calls_of

if TYPE_CHECKING:
    from tests.processes import Running


@pytest.fixture
def client(gateway: Running, tenants: Tenants) -> Client:
    return Client(gateway.url, tenants.keys["both"])


def quote(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = HTTP.post(
        f"{client.url}/v1/images:estimate", json=body, headers={"X-API-Key": client.key}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    assert "ratelimit" in answer.headers
    return dict(answer.json())


def test_a_quote_is_what_is_then_reserved_and_spends_nothing(client: Client, emulator: Running) -> None:
    body = {"prompt": f"Quoted {secrets.token_hex(4)}", "image_size": "4K", "n": 2, "delivery": "uri"}
    before, calls = client.get("/v1/usage").json(), calls_of(emulator)
    quoted = quote(client, body)
    assert quoted["valid"]
    assert quoted["would_be_admitted"]
    assert not quoted["cached"]
    assert quoted["estimate"]["image_tokens"] == 2 * 2520
    assert quoted["estimate"]["output_tokens"] == 2 * 2520 + quoted["estimate"]["text_output"]
    assert quoted["effective"]["seeds"] == [None, None]
    assert "preview_feature" in {warning["code"] for warning in quoted["warnings"]}
    assert client.get("/v1/usage").json() == before
    assert calls_of(emulator) == calls
    made = client.post({**body, "image_size": "512"}).json()
    assert quote(client, {**body, "image_size": "512"})["cached"]
    assert made["usage"]["cost_usd"] <= quoted["estimate"]["cost_usd"]


def test_a_quote_names_every_fault_and_still_shows_the_budgets(client: Client) -> None:
    quoted = quote(client, {"prompt": "x", "aspect_ratio": "7:3", "image_size": "8K", "colour": "red"})
    assert not quoted["valid"]
    assert not quoted["would_be_admitted"]
    assert quoted["estimate"] is None
    pointers = {item["pointer"] for item in quoted["violations"]}
    assert pointers == {"/aspect_ratio", "/image_size", "/colour"}
    assert quoted["budgets"]


def test_a_quote_names_the_budget_that_would_refuse(gateway: Running, tenants: Tenants) -> None:
    poor = Client(gateway.url, tenants.keys["poor"])
    quoted = quote(poor, {"prompt": "Too dear", "image_size": "4K"})
    assert quoted["valid"]
    assert not quoted["would_be_admitted"]
    assert quoted["refused_by"] == ["tenant-day-image_tokens"]


def test_a_picture_of_another_size_is_reported(client: Client, gateway: Running) -> None:
    prompt = f"[[emulate:wrong-size]] {secrets.token_hex(4)}"
    answer = client.post(
        {"prompt": prompt, "image_size": "1K", "aspect_ratio": "1:1", "delivery": "uri"}
    ).json()
    image = answer["images"][0]
    assert (image["width"], image["height"]) != (1024, 1024)
    assert "size_mismatch" in {warning["code"] for warning in answer["warnings"]}
    again = client.post(
        {"prompt": prompt, "image_size": "1K", "aspect_ratio": "1:1", "delivery": "uri"}
    ).json()
    assert "size_mismatch" in {warning["code"] for warning in again["warnings"]}
    metrics = HTTP.get(gateway.metrics_url).text
    assert 'flashgate_delivery_mismatches_total{code="size_mismatch"' in metrics


def test_a_picture_of_another_type_is_reported(client: Client, gateway: Running) -> None:
    body = {"prompt": f"[[emulate:webp]] {secrets.token_hex(4)}", "image_size": "512", "delivery": "uri"}
    answer = client.post({**body, "output_mime_type": "image/png"}).json()
    assert answer["images"][0]["mime_type"] == "image/webp"
    assert answer["effective"]["output_mime_type"] == "image/png"
    assert [item["code"] for item in answer["warnings"]] == ["mime_mismatch"]
    metrics = HTTP.get(gateway.metrics_url).text
    assert 'flashgate_delivery_mismatches_total{code="mime_mismatch"' in metrics
