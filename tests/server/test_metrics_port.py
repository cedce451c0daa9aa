"""Metrics name tenants, so callers do not see them: an operator's key opens them, or a port of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes import HTTP, Running, running_gateway
from tests.server.conftest import wait_for, write_tenants
from tests.server.operators import ADMIN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.conftest import Tenants

TENANT = "a-tenant-of-its-own"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    day = [{"unit": "images", "window": "day", "limit": 50}]
    return write_tenants(tmp_path_factory.mktemp("watched") / "tenants.yaml", {TENANT: day})


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str], watched: Tenants
) -> Iterator[Running]:
    own = {**settings, "budget_metrics_s": "0.5", "tenants_file": str(watched.path), "admin_key": ADMIN_KEY}
    with running_gateway(tmp_path_factory.mktemp("watched"), **own) as running:
        headers = {"X-API-Key": watched.keys[TENANT]}
        body = {"prompt": "Counted", "image_size": "512", "delivery": "uri"}
        assert HTTP.post(f"{running.url}/v1/images:generate", json=body, headers=headers).status_code == 200
        yield running


def test_who_shows_no_key_sees_no_tenant(gateway: Running) -> None:
    answer = HTTP.get(f"{gateway.url}/metrics")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TENANT not in answer.text


def test_a_callers_key_sees_no_tenant_either(gateway: Running, watched: Tenants) -> None:
    answer = HTTP.get(f"{gateway.url}/metrics", headers={"X-API-Key": watched.keys[TENANT]})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("header", [{"Authorization": f"Bearer {ADMIN_KEY}"}, {"X-API-Key": ADMIN_KEY}])
def test_an_operators_key_sees_everything(gateway: Running, header: dict[str, str]) -> None:
    named = f'tenant="{TENANT}"'
    wait_for(lambda: named in HTTP.get(f"{gateway.url}/metrics", headers=header).text, "it names the tenant")


def test_the_port_of_the_metrics_shows_them_without_a_key_and_nothing_else(
    gateway: Running, watched: Tenants
) -> None:
    base = gateway.metrics_url.removesuffix("/metrics")
    wait_for(lambda: f'tenant="{TENANT}"' in HTTP.get(gateway.metrics_url).text, "it names the tenant")
    wait_for(lambda: HTTP.get(f"{base}/readyz").status_code == 200, "it tells of health")
    for path, key in (("/v1/models", watched.keys[TENANT]), ("/v1/admin/tenants", ADMIN_KEY), ("/docs", "")):
        answer = HTTP.get(base + path, headers={"X-API-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_no_header_of_a_caller_moves_it_to_that_port(gateway: Running) -> None:
    host = gateway.metrics_url.removeprefix("http://").removesuffix("/metrics")
    forged = {"Host": host, "X-Forwarded-Host": host, "X-Forwarded-Port": host.rpartition(":")[2]}
    assert HTTP.get(f"{gateway.url}/metrics", headers=forged).status_code == 401
