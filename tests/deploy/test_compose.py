"""The compose file, brought up for real: a picture, its books in the store, and its numbers in Prometheus.

Like ``tests/deploy/test_container.py`` it runs only on request, with stand-ins for the images of others where
``deploy/container/build-without-docker.sh`` made some. Grafana, for which there is none, is left out.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.deploy.files import ROOT, alerts
from tests.deploy.test_container import (
    DEMO_IMAGE,
    ENGINE,
    IMAGE,
    WHY_NOT,
    engine,
    engine_environment,
    picture,
)
from tests.deploy.tools import programs
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or ""),
    pytest.mark.timeout(600),
]
PROJECT = f"flashgate-test-{os.getpid()}"
STAND_INS = {
    "STORE_IMAGE": "localhost/standin/valkey:8",
    "PROMETHEUS_IMAGE": "localhost/standin/prometheus:2",
}
PATIENCE_S = 90.0


def compose(*arguments: str, environment: dict[str, str]) -> str:
    """What the compose command of the engine says."""
    command = [str(programs("release") / "podman-compose")] if ENGINE == "podman" else [ENGINE, "compose"]
    done = subprocess.run(
        [*command, "-p", PROJECT, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_time(what: str, found: Callable[[], Any]) -> Any:
    """The first thing that is found, asked for again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if thing := found():
                return thing
        except (httpx2.TransportError, AssertionError):
            pass
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def system() -> Iterator[tuple[str, str, dict[str, str]]]:
    """The URLs of the gateway and of Prometheus, and the environment of the commands."""
    ports = {"PORT": str(free_port()), "PROMETHEUS_PORT": str(free_port())}
    images = {name: image for name, image in STAND_INS.items()
              if engine("image", "inspect", image, "--format", "{{.Id}}", check=False)}  # fmt: skip
    environment = {
        **engine_environment(),
        **ports,
        **images,
        "GATEWAY_IMAGE": IMAGE,
        "DEMO_IMAGE": DEMO_IMAGE,
    }
    try:
        compose("up", "-d", "--no-build", "gateway", "prometheus", environment=environment)
        yield (
            f"http://127.0.0.1:{ports['PORT']}",
            f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}",
            environment,
        )
    finally:
        compose("down", "--volumes", environment=environment)


def test_one_command_gives_a_gateway_that_draws_and_prometheus_that_sees_it(
    system: tuple[str, str, dict[str, str]],
) -> None:
    gateway, prometheus, environment = system
    in_time("the gateway is ready", lambda: httpx2.get(f"{gateway}/readyz").status_code == 200)
    key = compose(
        "exec", "-T", "gateway", "cat", "/var/lib/flashgate/demo-key", environment=environment
    ).strip()
    answer = picture(gateway, key)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    budgets = httpx2.get(f"{gateway}/v1/usage", headers={"X-API-Key": key}).json()["budgets"]
    assert {budget["settled"] for budget in budgets} == {747}

    def query(expression: str) -> list[Any]:
        found = httpx2.get(f"{prometheus}/api/v1/query", params={"query": expression}).json()
        return list(found["data"]["result"])

    (counted,) = in_time(
        "a picture was counted", lambda: query('flashgate_images_total{image_size="512"} == 1')
    )
    assert counted["metric"]["job"] == "flashgate"
    groups = httpx2.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert rules.keys() >= alerts().keys()
    assert {*rules.values()} <= {"ok", "unknown"}  # unknown until it was evaluated first


def test_the_store_keeps_its_secret_and_its_address_to_itself(
    system: tuple[str, str, dict[str, str]],
) -> None:
    *_, environment = system
    asked = ["exec", "-T", "store", "valkey-cli", "config", "get", "maxmemory-policy"]
    assert "NOAUTH" in compose(*asked, environment=environment)
