"""One gateway and one emulator for the whole folder, each a real process on a real port."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint
from tests.processes import HTTP, Running, running_emulator, running_gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx2

PEPPER = "a pepper of the tests, long enough to be one"


WIDEST = 32_768
"""The image tokens that a hold takes for each call where its budget has ample room: the most that fit."""


@dataclass(frozen=True)
class Tenants:
    """A tenants' file and the keys that fit it, by tenant."""

    path: Path
    keys: dict[str, str]


def write_tenants(
    path: Path, budgets: dict[str, list[dict[str, Any]]], more: dict[str, dict[str, Any]] | None = None
) -> Tenants:
    """A file with one key a tenant, and for some tenants more than budgets."""
    keys, entries = {}, []
    for index, (tenant, limits) in enumerate(budgets.items()):
        key = mint("test", bytes([index]) * ENTROPY_BYTES)
        keys[tenant] = key.text
        hashed = hash_secret(PEPPER.encode(), key.secret)
        entry = {"id": key.key_id, "hash": f"hmac-sha256:{hashed}", "scopes": ["images"]}
        entries.append({"id": tenant, "time_zone": "UTC", "budgets": limits, "keys": [entry]})
        entries[-1] |= (more or {}).get(tenant, {})
    path.write_text(yaml.safe_dump({"tenants": entries}))
    return Tenants(path, keys)


def tokens_a_day(limit: int) -> list[dict[str, Any]]:
    """A budget of image tokens."""
    return [{"unit": "image_tokens", "window": "day", "limit": limit}]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("emulator")) as process:
        yield process


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    ample = tokens_a_day(10_000_000)
    names = ("pictures", "identical", "counting", "badinput", "cache", "leaver", "other", "refused", "edits")
    every_unit = [
        *tokens_a_day(1_000_000),
        {"unit": "total_tokens", "window": "month", "limit": 100_000_000},
        {"unit": "images", "window": "day", "limit": 1000},
        {"unit": "usd", "window": "month", "limit": 500},
        {"unit": "all_output_tokens", "window": "day", "limit": 100_000_000},
    ]
    budgets = dict.fromkeys((*names, "idempotent", "own", "share"), ample) | {
        "thirtyseven": tokens_a_day(37 * 1120),
        "poor": tokens_a_day(1120),
        "both": every_unit,
        "units": every_unit,
    }
    sharing = {"share": {"cache": {"dialects": "share"}}}
    return write_tenants(tmp_path_factory.mktemp("tenants") / "tenants.yaml", budgets, sharing)


@pytest.fixture(scope="session")
def settings(tenants: Tenants, emulator: Running) -> dict[str, str]:
    """What every gateway of these tests is started with."""
    return {
        "tenants_file": str(tenants.path),
        "key_pepper": PEPPER,
        "upstream": "emulator",
        "emulator_base_url": emulator.url,
        "budget_metrics_s": "0",  # tests count commands of the store
        "upstream_breaker.calls_min": "1000",  # what one test rehearses is no trouble of the others
    }


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> Iterator[Running]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), **settings) as process:
        yield process


@dataclass(frozen=True)
class Client:
    """A caller of one tenant."""

    url: str
    key: str

    def post(self, body: dict[str, Any], **headers: str) -> httpx2.Response:
        """POST /v1/images:generate."""
        named = {"X-API-Key": self.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return HTTP.post(f"{self.url}/v1/images:generate", json=body, headers=named, timeout=60)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """GET any path."""
        named = {"X-API-Key": self.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return HTTP.get(f"{self.url}{path}", headers=named, timeout=60)

    def budget(self, name: str = "tenant-day-image_tokens") -> dict[str, Any]:
        """One budget window as /v1/usage shows it."""
        found = [item for item in self.get("/v1/usage").json()["budgets"] if item["name"] == name]
        assert len(found) == 1, f"{name} is not one of the caller's budgets"
        return dict(found[0])


def calls_of(emulator: Running) -> int:
    """How many generations the emulator was asked for since it started."""
    answer = HTTP.get(f"{emulator.url}/emulator/calls").json()
    return int(json.loads(json.dumps(answer))["generate"])


def wait_for(condition: Callable[[], bool], what: str, patience_s: float = 30) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
