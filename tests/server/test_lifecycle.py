"""Starting, restarting, losing the store, and going down, with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path  # noqa: TC003 - fixtures are typed by it at run time
from typing import TYPE_CHECKING

import httpx2
import psutil
import pytest

from app.store.embedded import EmbeddedStore
from tests.processes import HTTP, running_gateway
from tests.server.conftest import Client, Tenants, calls_of, wait_for

if TYPE_CHECKING:
    from tests.processes import Running


def emulator_of(gateway: Running) -> psutil.Process:
    """The emulator that a gateway has started."""
    return next(iter(psutil.Process(gateway.process.pid).children()), psutil.Process(gateway.process.pid))


def store_of(state: Path) -> psutil.Process:
    """The embedded server of a state directory; it belongs to no gateway, so that one may die without it."""
    socket = str(EmbeddedStore(state).socket)
    found = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if "valkey" in process.info["name"] and socket in " ".join(process.info["cmdline"] or ())
    ]
    assert len(found) == 1
    return found[0]


def test_the_embedded_default_makes_a_picture_and_its_state_survives_a_restart(tmp_path: Path) -> None:
    key_file = tmp_path / "state" / "demo-key"
    with running_gateway(tmp_path, log_format="text") as first:
        key = key_file.read_text().strip()
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        body = {"prompt": "First light", "output_mime_type": "image/png", "aspect_ratio": "16:9"}
        made = Client(first.url, key).post(body, accept="image/*")
        assert made.status_code == 200
        assert made.headers["content-type"] == "image/png"
        log = tmp_path / f"gateway-{first.url.rpartition(':')[2]}.log"
        command = f"curl -sS --fail-with-body {first.url}/v1/images:generate"
        wait_for(lambda: command in log.read_text(), "the command is printed")
        assert key in log.read_text()
    with running_gateway(tmp_path) as second:
        assert key_file.read_text().strip() == key
        client = Client(second.url, key)
        again = client.post(body, accept="image/*")
        assert again.headers["cache-status"].startswith("flashgate; hit")
        assert again.content == made.content
        assert client.budget()["settled"] == 1120


def test_the_embedded_store_is_back_with_its_books_after_a_crash(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants
) -> None:
    with running_gateway(tmp_path, **settings) as gateway:
        client = Client(gateway.url, tenants.keys["pictures"])
        body = {"prompt": "Before the crash", "image_size": "512", "delivery": "uri"}
        made = client.post(body).json()
        store = store_of(tmp_path / "state")
        store.send_signal(signal.SIGKILL)
        wait_for(
            lambda: not store.is_running() or store.status() == psutil.STATUS_ZOMBIE, "the store is gone"
        )
        wait_for(lambda: client.get("/readyz").status_code == 200, "the store is back")
        assert client.budget()["settled"] == 747
        assert client.post(body).json()["images"] == made["images"]


def test_a_dead_emulator_is_replaced_and_keeps_its_rules(tmp_path: Path) -> None:
    rules = tmp_path / "faults.yaml"
    rules.write_text("rules: [{rehearse: 'finish:SPII', match: {prompt: refused}}]")
    with running_gateway(tmp_path, emulator_faults=str(rules), emulator_latency_factor="0") as gateway:
        client = Client(gateway.url, (tmp_path / "state" / "demo-key").read_text().strip())
        emulator = emulator_of(gateway)
        emulator.send_signal(signal.SIGKILL)
        wait_for(
            lambda: emulator_of(gateway).pid not in {emulator.pid, gateway.process.pid}, "there is another"
        )
        answer = client.post({"prompt": "Drawn by the second", "image_size": "512", "delivery": "uri"})
        assert answer.status_code == 200, answer.text
        refused = client.post({"prompt": "Refused by a rule", "image_size": "512"})
        assert refused.json()["upstream"]["category"] == "personal_information"


def test_nothing_that_was_started_outlives_the_last_gateway(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        started = [store_of(tmp_path / "state"), emulator_of(gateway)]
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert gateway.process.returncode == 0


def test_sigterm_lets_a_running_call_finish_and_answer(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants, emulator: Running
) -> None:
    answers: list[httpx2.Response] = []
    with running_gateway(tmp_path, **settings) as gateway:
        client = Client(gateway.url, tenants.keys["pictures"])
        calls = calls_of(emulator)
        body = {"prompt": "Going down [[emulate:hold:sigterm]]", "image_size": "512", "delivery": "uri"}
        asking = threading.Thread(target=lambda: answers.append(client.post(body)))
        asking.start()
        wait_for(lambda: calls_of(emulator) > calls, "the call has reached the upstream")
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not listens(gateway), "the gateway takes no more work")
        HTTP.post(f"{emulator.url}/emulator/release/sigterm").raise_for_status()
        asking.join(15)
        assert [answer.status_code for answer in answers] == [200], answers[0].text
        assert gateway.process.wait(15) == 0


def test_sigterm_ends_a_call_that_takes_too_long_and_books_its_estimate(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants, emulator: Running
) -> None:
    answers: list[httpx2.Response] = []
    with running_gateway(tmp_path, **settings, drain_s="1") as gateway:
        client = Client(gateway.url, tenants.keys["other"])
        calls = calls_of(emulator)
        body = {"prompt": "Too slow [[emulate:hold:too-slow]]", "image_size": "512", "delivery": "uri"}
        asking = threading.Thread(target=lambda: answers.append(client.post(body)))
        asking.start()
        wait_for(lambda: calls_of(emulator) > calls, "the call has reached the upstream")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        asking.join(15)
        assert gateway.process.wait(15) == 0
        assert time.monotonic() - began < 10
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "draining")]
    HTTP.post(f"{emulator.url}/emulator/release/too-slow")
    with running_gateway(tmp_path, **settings) as gateway:
        budget = Client(gateway.url, tenants.keys["other"]).budget()
        assert (budget["settled"], budget["held"]) == (747, 0)


def listens(gateway: Running) -> bool:
    """Whether it accepts connections."""
    try:
        HTTP.get(f"{gateway.url}/livez", timeout=2)
    except httpx2.TransportError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("port", "eighty", "PORT"),
        ("tenants_file", "/nowhere/tenants.yaml", "/nowhere/tenants.yaml"),
        ("emulator_faults", "/nowhere/faults.yaml", "/nowhere/faults.yaml"),
    ],
)
def test_a_bad_setting_ends_the_start_with_its_name(tmp_path: Path, name: str, value: str, says: str) -> None:
    variable = "PORT" if name == "port" else f"FLASHGATE_{name.upper()}"
    environment = {**os.environ, "FLASHGATE_STATE_DIR": str(tmp_path), "PORT": "0", variable: value}
    ended = subprocess.run(
        [sys.executable, "-m", "app", "serve"], env=environment, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert says in ended.stderr.decode() + ended.stdout.decode()


def test_the_gemini_api_is_spoken_to_in_its_own_way(
    tmp_path: Path, settings: dict[str, str], tenants: Tenants, emulator: Running
) -> None:
    gemini = {**settings, "upstream": "gemini", "gemini_api_key": "any", "gemini_base_url": emulator.url}
    with running_gateway(tmp_path, **gemini) as gateway:
        client = Client(gateway.url, tenants.keys["pictures"])
        made = client.post({"prompt": "By the Gemini API", "image_size": "512", "delivery": "uri"})
        assert made.status_code == 200, made.text
        refused = client.post({"prompt": "PNG", "output_mime_type": "image/png"}).json()
        assert [item["pointer"] for item in refused["violations"]] == ["/output_mime_type"]
