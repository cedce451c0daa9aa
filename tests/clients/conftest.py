"""A gateway and an emulator as for the server's tests, with tenants of this folder's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.conftest import Tenants, emulator, gateway, settings, tokens_a_day, write_tenants

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["emulator", "gateway", "settings", "tenants"]


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    budgets = {"ample": tokens_a_day(10_000_000), "poor": tokens_a_day(1120)}
    folder: Path = tmp_path_factory.mktemp("tenants")
    return write_tenants(folder / "tenants.yaml", budgets)
