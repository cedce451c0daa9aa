"""A gateway and an emulator as for the server's tests, with tenants of this folder's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.server.conftest import Tenants, emulator, gateway, settings, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["emulator", "gateway", "settings", "tenants"]

AMPLE = ("openai", "openai-node", "gemini", "timeouts", "leaving", "counted", "one-model", "everything")


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
