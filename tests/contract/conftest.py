"""A gateway and an emulator as for the server's tests, with tenants of this folder's own."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    "everything",
    "streams",
)


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = dict.fromkeys(AMPLE, tokens_a_day(10_000_000)) | {"poor": tokens_a_day(1120)}
    folder: Path = tmp_path_factory.mktemp("tenants")
    written = write_tenants(folder / "tenants.yaml", budgets)
    listed = yaml.safe_load(written.path.read_text())
    for entry in listed["tenants"]:
        if entry["id"] == "one-model":
            entry["models"] = ["gemini-3.1-flash-image"]
        if entry["id"] == "everything":
            entry["keys"][0]["scopes"] = ["images", "admin"]
    written.path.write_text(yaml.safe_dump(listed))
    return written


@pytest.fixture(scope="session")
def settings(usual_settings: dict[str, str]) -> dict[str, str]:
    """Streams that wait for their status soon say that they have begun."""
    return {**usual_settings, "stream_patience_s": "0.5"}


@dataclass(frozen=True)
class Gate:
    """Holds the calls whose prompts name it, until it is opened."""

    emulator: Running
    name: str

    @property
    def word(self) -> str:
        """What a prompt says to be held."""
        return f"[[emulate:hold:{self.name}]]"

    def wait(self) -> None:
        """Return as soon as a call is held."""
        wait_for(lambda: HTTP.get(f"{self.emulator.url}/emulator/held/{self.name}").json()["held"], self.name)

    def open(self) -> None:
        """Let every call go on, also those that come later."""
        HTTP.post(f"{self.emulator.url}/emulator/release/{self.name}").raise_for_status()


@pytest.fixture
def gate(emulator: Running) -> Iterator[Gate]:
    """A gate of this test's own."""
    found = Gate(emulator, secrets.token_hex(6))
    yield found
    found.open()
