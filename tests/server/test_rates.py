"""Rates, caps and refusals as callers see them."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import PEPPER, Client, Tenants, calls_of, tokens_a_day, wait_for, write_tenants
from tests.surfaces.test_ratelimit import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

MORE: dict[str, dict[str, Any]] = {
    "few": {"rate": {"requests_per_minute": 2}},
    "narrow": {"rate": {"concurrent": 2}},
    "strict": {"strict": True},
}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = dict.fromkeys(MORE, tokens_a_day(1_000_000))
    budgets["short"] = [*tokens_a_day(2 * 1120), {"unit": "usd", "window": "lifetime", "limit": 5}]
    return write_tenants(tmp_path_factory.mktemp("limited") / "tenants.yaml", budgets, MORE)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, limited: Tenants, emulator: Running) -> Iterator[Running]:
    settings = {"tenants_file": str(limited.path), "key_pepper": PEPPER, "emulator_base_url": emulator.url}
    with running_gateway(tmp_path_factory.mktemp("door"), upstream="emulator", **settings) as process:
        yield process


def fresh(directive: str = "", **more: Any) -> dict[str, Any]:
    return {"prompt": f"Rated {secrets.token_hex(4)} {directive}", "delivery": "uri", **more}


def test_more_requests_than_the_rate_allows_are_sent_away_with_when_to_come_back(
    door: Running, limited: Tenants, emulator: Running
) -> None:
    client, body = Client(door.url, limited.keys["few"]), fresh(image_size="512")
    calls = calls_of(emulator)
    answers = [client.post(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429], "a hit is a request too"
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["violated_policies"] == ["tenant-requests"]
    assert 1 <= int(refused.headers["retry-after"]) <= 33
    policies = dict(parsed(refused.headers["ratelimit-policy"]))
    assert policies["tenant-requests"] == {"q": 2, "w": 60, "qu": "requests"}
    states = dict(parsed(refused.headers["ratelimit"]))
    assert states["tenant-requests"]["r"] == 0
    assert 0 < states["tenant-requests"]["t"] <= 60
    (rate,) = client.get("/v1/usage").json()["rates"]
    assert (rate["name"], rate["limit"], rate["remaining"]) == ("tenant-requests", 2, 0)
    assert calls_of(emulator) - calls == 1


def test_a_cap_bounds_what_is_drawn_at_once_and_not_what_is_shared(
    door: Running, limited: Tenants, emulator: Running
) -> None:
    client, gate, calls = Client(door.url, limited.keys["narrow"]), secrets.token_hex(4), calls_of(emulator)
    bodies = [fresh(f"[[emulate:hold:{gate}]]", image_size="512") for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        drawn = [pool.submit(client.post, body) for body in bodies]
        wait_for(lambda: calls_of(emulator) - calls == 2, "two are being drawn")
        refused = client.post(fresh())
        shared = pool.submit(client.post, bodies[0])
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.json()["violated_policies"] == ["tenant-concurrent"]
        assert refused.headers["retry-after"] == "1"
        HTTP.post(f"{emulator.url}/emulator/release/{gate}").raise_for_status()
        assert {future.result().status_code for future in (*drawn, shared)} == {200}
    assert client.post(fresh(image_size="512")).status_code == 200


def test_who_is_refused_learns_why_and_what_would_fit(door: Running, limited: Tenants) -> None:
    client = Client(door.url, limited.keys["short"])
    assert client.post(fresh(image_size="1K")).status_code == 200
    refused = client.post(fresh(image_size="1K", n=2))
    problem = refused.json()
    assert problem["code"] == "budget_exceeded"
    (why,) = problem["refused_by"]
    assert (why["name"], why["asked"], why["remaining"]) == ("tenant-day-image_tokens", 2240, 1120)
    assert why["resets_at"].endswith("Z")
    assert problem["would_fit"] == {"image_size": None, "n": 1}
    waits = []
    for _ in range(20):
        again = client.post(fresh(image_size="1K", n=2))
        reset_s = dict(parsed(again.headers["ratelimit"]))["tenant-day-image_tokens"]["t"]
        waits.append(int(again.headers["retry-after"]) - reset_s)
    assert 0 <= min(waits) < max(waits) <= 60, "never too early, and not everybody in the same second"
    assert client.post(fresh(image_size="1K")).status_code == 200
    lifetime = client.budget("tenant-lifetime-usd")
    assert lifetime["resets_at"] is None
    assert 0 < lifetime["settled"] < 1


def test_a_strict_tenant_never_spends_more_than_was_reserved(door: Running, limited: Tenants) -> None:
    client = Client(door.url, limited.keys["strict"])
    answer = client.post(fresh(image_size="1K")).json()
    bound = answer["effective"]["max_output_tokens"]
    assert answer["usage"]["output_tokens"] <= bound
    assert client.budget()["settled"] == 1120
