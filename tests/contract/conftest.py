"""A gateway and an emulator as for the server's tests, with tenants of this folder's own."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.processes import HTTP
from tests.server.conftest import Tenants, emulator, gateway, tokens_a_day, wait_for, write_tenants
from tests.server.conftest import settings as usual_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Running

__all__ = ["emulator", "gateway", "settings", "tenants", "usual_settings"]

AMPLE = (
    "openai",
    "openai-node",
    "gemini",
    "timeouts",
    "leaving",
    "counted",
    "one-model",
    "streams",
    "left",
)


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = dict.fromkeys(AMPLE, tokens_a_day(10_000_000))
    budgets |= dict.fromkeys(("poor", "recorded"), tokens_a_day(1120))
    folder: Path = tmp_path_factory.mktemp("tenants")
    written = write_tenants(folder / "tenants.yaml", budgets)
    listed = yaml.safe_load(written.path.read_text())
    for entry in listed["tenants"]:
        if entry["id"] == "one-model":
            entry["models"] = ["gemini-3.1-flash-image"]
    written.path.write_text(yaml.safe_dump(listed))
    return written


@pytest.fixture(scope="session")
def settings(usual_settings: dict[str, str]) -> dict[str, str]:
    """Streams that wait for their status soon say that they have begun."""
    return {**usual_settings, "stream_status_wait_s": "0.5"}


@dataclass(frozen=True)
class Gate:
    """Holds the calls whose prompts name it, until it is opened."""

    emulator: Running
    name: str

    @property
    def word(self) -> str:
        """What a prompt says to be held."""
        return f"[[emulate:hold:{self.name}]]"

    def wait(self, calls: int = 1) -> None:
        """Return as soon as so many calls are held."""
        held = f"{self.emulator.url}/emulator/held/{self.name}"
        wait_for(lambda: HTTP.get(held).json()["held"] == calls, f"{calls} at {self.name}")

    def open(self) -> None:
        """Let every call go on, also those that come later."""
        HTTP.post(f"{self.emulator.url}/emulator/release/{self.name}").raise_for_status()


@pytest.fixture
def gate(emulator: Running) -> Iterator[Gate]:
    """A gate of this test's own."""
    found = Gate(emulator, secrets.token_hex(6))
    yield found
    found.open()


NODE_SDKS = ("@google/genai@3.1.0", "openai@6.49.0")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the tree with the SDKs in it; without Node or a registry its tests are skipped."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text('{"private": true}')
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save", *NODE_SDKS]
    try:
        installed = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{NODE_SDKS} could not be installed within a minute")
    if installed.returncode:
        pytest.skip(f"{NODE_SDKS} cannot be installed here: {installed.stderr.strip()[-200:]}")
    return folder


def run_in(folder: Path, script: Path, *arguments: str) -> dict[str, Any]:
    """What a script prints, which is one JSON document."""
    shutil.copy(script, folder)
    command = ["node", script.name, *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))
