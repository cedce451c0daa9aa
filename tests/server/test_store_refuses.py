"""A store that refuses the gateway is named by the first line, readiness, the log of calls, the terminal."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import HTTP, free_port, running_gateway
from tests.server.conftest import wait_for
from tests.store.refusing import PASSWORD, REFUSALS, Refusal, server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

NAMES = (
    "no scripts", "no writes", "no listening", "wrong password", "TLS on a plain port", "plain on a TLS port",
    "an unknown host", "nobody", "a replica", "no memory", "loading", "no cluster yet",
)  # fmt: skip
SERVES_ALL_THE_SAME = frozenset({"no listening"})
READY = "flashgate is ready"


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="fg") as name:
        yield Path(name)


def text_of(folder: Path) -> str:
    (log,) = folder.glob("gateway-*.log")
    return log.read_text()


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(folder).splitlines() if line.startswith("{")]


def is_told(line: dict[str, Any], refusal: Refusal) -> bool:
    return refusal.cause in line.get("cause", "") and refusal.remedy in line.get("remedy", "")


def ask(url: str, folder: Path) -> httpx2.Response:
    """Ask for a picture with the key of the tenant demo."""
    key = (folder / "state" / "demo-key").read_text().strip()
    return HTTP.post(f"{url}/v1/images:generate", headers={"X-API-Key": key}, json={"prompt": "A lighthouse"})


@pytest.mark.parametrize("name", NAMES)
def test_a_gateway_says_why_its_store_cannot_be_used(name: str, folder: Path) -> None:
    refusal = REFUSALS[name]
    gateway_folder = folder / "g"
    with (
        refusal.opened(folder) as url,
        running_gateway(gateway_folder, redis_url=url, probe="/livez", upstream="emulator") as gateway,
    ):
        first = next(line for line in lines_of(gateway_folder) if line["severity"] in {"WARNING", "ERROR"})
        assert first["message"].startswith("the store ")
        assert is_told(first, refusal) or first["reason"] == "no_answer", (
            "on a busy machine a time-out is first"
        )

        def readiness() -> str:
            return str(HTTP.get(f"{gateway.url}/readyz").json()["checks"]["store"])

        wait_for(lambda: refusal.cause in readiness(), "it is not ready")
        assert HTTP.get(f"{gateway.url}/readyz").status_code == 503
        told = readiness()
        place = url.rpartition("@")[2].removeprefix("redis://").removeprefix("unix://")
        for words in (place, refusal.cause, refusal.remedy):
            assert words in told
        if name not in SERVES_ALL_THE_SAME:
            failed = ask(gateway.url, gateway_folder)
            assert (failed.status_code, failed.json()["code"]) == (503, "store_unavailable")
            assert place not in failed.text, "callers are told no address"
            calls = [line for line in lines_of(gateway_folder) if line.get("stage") == "calls"]
            assert calls[0]["message"] == "the store fails"
            assert calls[0]["cause"], calls
            assert calls[0]["address"] == place
    text = text_of(gateway_folder)
    assert "flashgate is not ready" in text
    for words in (READY, PASSWORD, "(withheld)"):
        assert words not in text


def test_the_person_at_the_terminal_is_greeted_when_the_store_has_come(folder: Path) -> None:
    gateway_folder = folder / "g"
    with server(folder) as (process, port):
        process.kill()
        url = f"redis://127.0.0.1:{port}"
        with running_gateway(gateway_folder, redis_url=url, probe="/livez") as gateway:
            wait_for(lambda: "flashgate is not ready" in text_of(gateway_folder), "it says so")
            process.start()
            wait_for(lambda: READY in text_of(gateway_folder), "it greets")
            wait_for(lambda: HTTP.get(f"{gateway.url}/readyz").status_code == 200, "it is ready")
            assert ask(gateway.url, gateway_folder).status_code == 200
    assert text_of(gateway_folder).count(READY) == 1


def serve(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``flashgate serve`` where it cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        env={"FLASHGATE_STATE_DIR": str(folder / "state"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("variable", ["PORT", "FLASHGATE_ADMIN_PORT", "FLASHGATE_METRICS_PORT"])
def test_a_port_that_is_taken_is_told_by_its_number_and_its_variable(variable: str, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve(folder, **{"PORT": str(free_port()), variable: str(port)})
    assert done.returncode == 3
    for words in (
        f"127.0.0.1:{port}",
        "EADDRINUSE: Address already in use",
        f"set {variable} to another port",
    ):
        assert words in done.stderr
        assert words in done.stdout, "in the log, too"
    assert "(withheld)" not in done.stdout
    assert not (folder / "state").exists(), "nothing was begun"


@pytest.mark.parametrize("host", ["10.254.254.254", "nowhere.invalid"])
def test_an_address_that_is_not_this_machines_is_told(host: str, folder: Path) -> None:
    done = serve(folder, PORT="0", FLASHGATE_HOST=host)
    assert done.returncode == 3
    assert host in done.stderr
    assert "Set FLASHGATE_HOST to an address of this machine" in done.stderr


def test_every_address_of_a_name_is_listened_on(folder: Path) -> None:
    with running_gateway(folder, host="localhost") as gateway:
        port = gateway.url.rpartition(":")[2]
        for address in {found[4][0] for found in socket.getaddrinfo("localhost", port)}:
            shown = f"[{address}]" if ":" in str(address) else address
            assert HTTP.get(f"http://{shown}:{port}/livez").status_code == 200


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("FLASHGATE_STATE_DIR", "/proc/nowhere", "/proc/nowhere: FileNotFoundError: ENOENT"),
        ("FLASHGATE_REDIS_URL", "http://store", "A store's address begins with one of"),
        ("FLASHGATE_TENANTS_FILE", "/nowhere.yaml", "/nowhere.yaml: one fault"),
    ],
)
def test_whatever_keeps_it_from_starting_is_told_in_the_log_and_at_the_terminal(
    folder: Path, setting: str, value: str, words: str
) -> None:
    done = serve(folder, **{"PORT": "0", setting: value})
    assert done.returncode == 3
    assert words in done.stderr
    assert words in done.stdout
    assert "(withheld)" not in done.stdout
