"""What is for operators can have a port of its own, and then exists on no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.__main__ import main
from tests.processes import HTTP, Running, free_port, running_gateway
from tests.server.operators import ADMIN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.conftest import Tenants


@pytest.fixture(scope="module")
def ports(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]
) -> Iterator[tuple[str, str, Running]]:
    admin_port = free_port()
    folder = tmp_path_factory.mktemp("admin-port")
    with running_gateway(folder, **settings, admin_port=str(admin_port), admin_key=ADMIN_KEY) as gateway:
        yield gateway.url, f"http://127.0.0.1:{admin_port}", gateway


@pytest.mark.parametrize("path", ["/metrics", "/v1/admin/tenants", "/v1/admin", "/v1/admin/"])
def test_callers_do_not_find_what_is_for_operators(ports: tuple[str, str, Running], path: str) -> None:
    callers, _, _ = ports
    answer = HTTP.get(callers + path, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_no_header_of_a_caller_moves_it_to_the_other_port(ports: tuple[str, str, Running]) -> None:
    callers, operators, _ = ports
    host = operators.removeprefix("http://")
    forged = {"Host": host, "X-Forwarded-Host": host, "X-Forwarded-Port": host.rpartition(":")[2]}
    assert HTTP.get(f"{callers}/metrics", headers=forged).status_code == 404


def test_operators_find_it_on_their_port(ports: tuple[str, str, Running]) -> None:
    _, operators, _ = ports
    assert "flashgate_requests_total" in HTTP.get(f"{operators}/metrics").text
    listed = HTTP.get(f"{operators}/v1/admin/tenants", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert listed.status_code == 200


def test_callers_are_served_and_both_ports_tell_of_health(
    ports: tuple[str, str, Running], tenants: Tenants
) -> None:
    callers, operators, _ = ports
    headers = {"X-API-Key": tenants.keys["pictures"]}
    assert HTTP.get(f"{callers}/v1/models", headers=headers).status_code == 200
    assert [HTTP.get(f"{base}/readyz").status_code for base in (callers, operators)] == [200, 200]


def test_the_operators_commands_use_their_port(
    ports: tuple[str, str, Running], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLASHGATE_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("FLASHGATE_ADMIN_PORT", ports[1].rpartition(":")[2])
    assert main(["tenants", "list"]) == 0
    assert "pictures" in capsys.readouterr().out


def test_sigterm_ends_both_ports(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> None:
    port = free_port()
    with running_gateway(tmp_path_factory.mktemp("ended"), **settings, admin_port=str(port)) as gateway:
        gateway.process.terminate()
        assert gateway.process.wait(15) == 0
