"""Budgets that refuse, in every dialect: in words, with what would fit, and no wait that cannot help."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, write_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

ZONE = "Asia/Kolkata"
MODEL = "gemini-3.1-flash-image"
# Of each unit, a limit of which one 1K picture takes a part and which four 4K pictures pass.
LIMITS = {"image_tokens": 2240, "all_output_tokens": 3000, "total_tokens": 4000, "images": 3, "usd": 0.2}
WORDS = {
    "image_tokens": "10,080 image tokens",
    "all_output_tokens": " output tokens",
    "total_tokens": " tokens",
    "images": "4 images",
    "usd": "$",
}
ONE_PICTURE = ("image_tokens", "all_output_tokens")
THOUGHTS = 2000
"""Less than the thoughts of a high level alone, and more than a 1K picture with few."""
OF_MACHINES = re.compile(r"_|\d{5,}(?!-)")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    def budget(unit: str, window: str) -> list[dict[str, Any]]:
        return [{"unit": unit, "window": window, "limit": LIMITS[unit]}]

    budgets = {f"{unit.replace('_', '-')}-{window}": budget(unit, window)
               for unit in LIMITS for window in ("minute", "month", "lifetime")}  # fmt: skip
    ample = {"unit": "image_tokens", "window": "day", "limit": 1_000_000}
    thoughts = {"unit": "all_output_tokens", "window": "day", "limit": THOUGHTS}
    budgets |= {f"thinks-{dialect}": [ample, thoughts] for dialect in ("native", "openai", "gemini")}
    more: dict[str, dict[str, Any]] = {name: {"time_zone": ZONE} for name in budgets}
    return write_tenants(tmp_path_factory.mktemp("limited") / "tenants.yaml", budgets, more)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, limited: Tenants, emulator: Running) -> Iterator[Running]:
    settings = {"tenants_file": str(limited.path), "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("door"), upstream="emulator", **settings) as process:
        yield process


def asked(door: Running, key: str, dialect: str, size: str, n: int) -> httpx2.Response:
    """The same pictures in one of the dialects."""
    prompt, headers = f"Refused {secrets.token_hex(4)}", {"X-API-Key": key}
    if dialect == "native":
        body: dict[str, Any] = {"prompt": prompt, "image_size": size, "n": n, "delivery": "uri"}
        return HTTP.post(f"{door.url}/v1/images:generate", json=body, headers=headers)
    if dialect == "openai":
        body = {"prompt": prompt, "image_size": size, "n": n}
        return HTTP.post(f"{door.url}/openai/v1/images/generations", json=body, headers=headers)
    config = {"imageConfig": {"imageSize": size}}
    body = {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config}
    return HTTP.post(f"{door.url}/gemini/v1beta/models/{MODEL}:generateContent", json=body, headers=headers)


def sentence_of(answer: httpx2.Response) -> str:
    document = answer.json()
    return str(document.get("detail") or document["error"]["message"])


@pytest.mark.parametrize("window", ["minute", "month"])
@pytest.mark.parametrize(
    ("dialect", "unit"),
    # In Google's dialect a request is one picture, which is more than two of these limits alone.
    [
        *((dialect, unit) for dialect in ("native", "openai") for unit in LIMITS),
        *(("gemini", unit) for unit in ONE_PICTURE),
    ],
)
def test_what_never_fits_is_not_told_to_wait(
    door: Running, limited: Tenants, dialect: str, unit: str, window: str
) -> None:
    answer = asked(door, limited.keys[f"{unit.replace('_', '-')}-{window}"], dialect, "4K", 4)
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    sentence = sentence_of(answer)
    assert f"and the tenant's whole budget for a {window} is " in sentence
    assert "Waiting does not help; ask for less." in sentence
    assert "What would fit now: " in sentence
    assert not OF_MACHINES.search(sentence)
    if dialect == "native":
        problem = answer.json()
        assert (problem["retryable"], "retry_after_s" in problem) == (False, False)
        assert problem["would_fit"]["image_size"] or problem["would_fit"]["n"] or unit in ONE_PICTURE
        assert WORDS[unit] in sentence
    if dialect == "openai":
        assert answer.headers["x-should-retry"] == "false"
        fitting = answer.json()["error"]["would_fit"]
        assert fitting["image_size"] or fitting["n"] or unit in ONE_PICTURE
    if dialect == "gemini":
        details = {item["@type"].rpartition(".")[2]: item for item in answer.json()["error"]["details"]}
        assert "RetryInfo" not in details
        (violation,) = details["QuotaFailure"]["violations"]
        assert violation["description"] in sentence
        size = details["ErrorInfo"]["metadata"]["wouldFitImageSize"]
        assert f"What would fit now: the size {size}." in sentence


@pytest.mark.parametrize("dialect", ["native", "openai", "gemini"])
def test_what_fits_again_is_told_when_in_the_tenants_zone(
    door: Running, limited: Tenants, dialect: str
) -> None:
    key = limited.keys["images-month"]
    while asked(door, key, "native", "512", 1).status_code == 200:
        pass
    answer = asked(door, key, dialect, "512", 1)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    sentence = sentence_of(answer)
    assert re.fullmatch(
        r"This request needs 1 image, and the tenant's budget for this month has 0 of 3 left\. "
        r"It resets at \d{4}-\d\d-01 00:00 \(Asia/Kolkata\)\.",
        sentence,
    )
    if dialect == "native":
        assert answer.json()["retryable"] is True
    if dialect == "gemini":
        types = [item["@type"] for item in answer.json()["error"]["details"]]
        assert any(each.endswith("RetryInfo") for each in types)


@pytest.mark.parametrize("unit", LIMITS)
def test_a_prepaid_budget_says_that_it_takes_credit(door: Running, limited: Tenants, unit: str) -> None:
    client = Client(door.url, limited.keys[f"{unit.replace('_', '-')}-lifetime"])
    answer = asked(door, client.key, "native", "4K", 4)
    problem = answer.json()
    assert (answer.status_code, problem["retryable"]) == (429, False)
    assert "retry-after" not in answer.headers
    assert "the tenant's prepaid budget has" in problem["detail"]
    assert "more credit is needed" in problem["detail"]


def test_an_estimate_tells_the_reason_too(door: Running, limited: Tenants) -> None:
    headers = {"X-API-Key": limited.keys["image-tokens-minute"]}
    body = {"prompt": "How much", "image_size": "4K"}
    quote = HTTP.post(f"{door.url}/v1/images:estimate", json=body, headers=headers).json()
    assert (quote["would_be_admitted"], quote["refused_by"]) == (False, ["tenant-minute-image_tokens"])
    refusal = quote["refusal"]
    assert (refusal["code"], refusal["retryable"], refusal["retry_after_s"]) == (
        "budget_exceeded",
        False,
        None,
    )
    assert refusal["would_fit"]["image_size"] == "2K"
    assert refusal["detail"].endswith("What would fit now: the size 2K.")
    admitted = HTTP.post(f"{door.url}/v1/images:estimate", json={"prompt": "x"}, headers=headers).json()
    assert (admitted["would_be_admitted"], admitted["refusal"]) == (True, None)


def think(door: Running, key: str, dialect: str, level: str) -> httpx2.Response:
    """A 1K picture with much or little thinking; in OpenAI's dialect the model alone decides how much."""
    prompt, headers = f"Thinking {secrets.token_hex(4)}", {"X-API-Key": key}
    if dialect == "native":
        body: dict[str, Any] = {"prompt": prompt, "thinking_level": level, "delivery": "uri"}
        return HTTP.post(f"{door.url}/v1/images:generate", json=body, headers=headers)
    if dialect == "openai":
        body = {"prompt": prompt, "model": MODEL if level == "minimal" else "gemini-3-pro-image"}
        return HTTP.post(f"{door.url}/openai/v1/images/generations", json=body, headers=headers)
    config = {"thinkingConfig": {"thinkingLevel": level}}
    body = {"contents": [{"parts": [{"text": prompt}]}], "generationConfig": config}
    return HTTP.post(f"{door.url}/gemini/v1beta/models/{MODEL}:generateContent", json=body, headers=headers)


@pytest.mark.parametrize("dialect", ["native", "openai", "gemini"])
def test_thoughts_alone_exceed_a_budget_of_all_output(door: Running, limited: Tenants, dialect: str) -> None:
    client = Client(door.url, limited.keys[f"thinks-{dialect}"])
    refused = think(door, client.key, dialect, "high")
    assert refused.status_code == 429, refused.text
    assert "This request needs up to 3,520 output tokens" in sentence_of(refused)
    assert f"budget for a day is {THOUGHTS:,}" in sentence_of(refused)
    policies = refused.headers["ratelimit-policy"]
    assert f'"tenant-day-all_output_tokens";q={THOUGHTS};w=86400;qu="all_output_tokens"' in policies
    assert '"tenant-day-image_tokens"' in policies
    if dialect == "native":
        assert refused.json()["violated_policies"] == ["tenant-day-all_output_tokens"]
    if dialect == "gemini":
        details = {item["@type"].rpartition(".")[2]: item for item in refused.json()["error"]["details"]}
        (violation,) = details["QuotaFailure"]["violations"]
        assert violation["quotaId"] == "tenant-day-all_output_tokens"
        assert violation["quotaMetric"] == "flashgate/all_output_tokens"
    served = think(door, client.key, dialect, "minimal")
    assert served.status_code == 200, served.text
    assert client.budget("tenant-day-image_tokens")["settled"] == 1120
    assert 1120 < client.budget("tenant-day-all_output_tokens")["settled"] < 1120 + 600
