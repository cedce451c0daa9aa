"""Another model answers than the requested one: its price is booked, and callers and operators are told."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running

if TYPE_CHECKING:
    from tests.server.conftest import Tenants

# The prices of the lists in dollars per million: what is read, words, pictures.
FLASH, PRO, LITE = (0.5, 3.0, 60.0), (2.0, 12.0, 120.0), (0.25, 1.5, 30.0)


def generate(gateway: Running, key: str, prompt: str, **fields: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "image_size": "1K", **fields}
    answer = HTTP.post(f"{gateway.url}/v1/images:generate", json=body, headers={"X-API-Key": key})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    document["notices"] = answer.headers.get("x-flashgate-notices", "")
    return document


def count(gateway: Running, answered_by: str) -> float:
    """What the metric says of answers by this model."""
    name = f'answered_by="{answered_by}"'
    lines = HTTP.get(gateway.metrics_url).text.splitlines()
    metric = "flashgate_other_model_answers_total{"
    return sum(float(line.split()[-1]) for line in lines if line.startswith(metric) and name in line)


def settled_usd(gateway: Running, key: str) -> float:
    usage = HTTP.get(f"{gateway.url}/v1/usage", headers={"X-API-Key": key}).json()
    return float(usage["spent"]["cost_usd"])


@pytest.mark.parametrize(
    ("version", "code", "answered_by", "prices"),
    [
        ("gemini-3.1-flash-image", "", "", FLASH),
        ("gemini-3.1-flash-image-002", "", "", FLASH),
        ("models/gemini-3.1-flash-image-preview", "", "", FLASH),
        ("gemini-3.1-flash-image-20260528", "", "", FLASH),
        ("gemini-3.1-flash-lite-image-001", "other_model_answered", "gemini-3.1-flash-lite-image", LITE),
        ("gemini-3-pro-image", "other_model_answered", "gemini-3-pro-image", PRO),
        ("gemini-4-picture", "unknown_model_answered", "unknown", PRO),
    ],
)
def test_the_model_that_answered_decides_the_price(
    gateway: Running, tenants: Tenants, version: str, code: str, answered_by: str, prices: tuple[float, ...]
) -> None:
    key, counted = tenants.keys["own"], count(gateway, answered_by)
    booked = settled_usd(gateway, key)
    prompt = f"Who drew {secrets.token_hex(4)} [[emulate:answered-by:{version}]]"
    answer = generate(gateway, key, prompt)
    usage, (read, words, pictures) = answer["usage"], prices
    expected = (
        usage["input_tokens"] * read
        + usage["image_tokens"] * pictures
        + (usage["text_output"] + usage["thinking"]) * words
    ) / 1_000_000
    assert usage["cost_usd"] == pytest.approx(expected, abs=1e-9)
    assert settled_usd(gateway, key) - booked == pytest.approx(expected, abs=1e-9)
    warnings = [warning for warning in answer["warnings"] if warning["code"].endswith("_model_answered")]
    assert [warning["code"] for warning in warnings] == ([code] if code else [])
    assert (code in answer["notices"]) or not code
    if code:
        assert version in warnings[0]["detail"]
        assert count(gateway, answered_by) == counted + 1
        again = generate(gateway, key, prompt)
        assert (again["cache"]["status"], again["usage"]["cost_usd"]) == ("hit", 0)
        assert code in again["notices"], "who gets the picture from the cache is told as well"


def test_each_of_several_pictures_has_the_price_of_its_model(gateway: Running, tenants: Tenants) -> None:
    prompt = f"Who drew {secrets.token_hex(4)} [[emulate:answered-by:gemini-3-pro-image]]"
    answer = generate(gateway, tenants.keys["own"], prompt, n=2)
    assert answer["usage"]["image_tokens"] == 2240
    assert answer["usage"]["cost_usd"] > 2 * 0.1344
    codes = [warning["code"] for warning in answer["warnings"]]
    assert codes.count("other_model_answered") == 1
