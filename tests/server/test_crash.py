"""A process that dies on the money path leaves books that balance."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from app.cards import load_catalogue
from app.domain.budget import Amounts, BudgetWindow
from app.domain.request import CacheDirective
from app.domain.tenancy import list_budget_windows
from app.generation.ports import AdmissionRequest, Lead, Settlement
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store.client import open_clients
from app.store.embedded import EmbeddedStore
from app.tenants.directory import FileDirectory
from tests.server.conftest import PEPPER, write_tenants
from tests.server.crash_after import STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.tenancy import Caller
    from tests.processes import Running

LEASE_S = 1.0
ESTIMATE = 1120 + 600 + 6 + 1  # the picture, the allowance for words, and the prompt's tokens at most


async def _books_after(state: Path, caller: Caller) -> dict[str, tuple[int, int]]:
    """Settled and held by unit, once no hold is left open."""
    tenant_id = caller.tenant.id
    async with (
        EmbeddedStore(state) as url,
        open_clients(url) as clients,
        RedisLedger(clients.ledger, LedgerConfig(lease_s=LEASE_S)) as ledger,
    ):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            windows = _windows(caller)
            await _sweep(ledger, tenant_id, windows)
            states = await ledger.get_windows(tenant_id, windows)
            if all(state.held == 0 for state in states):
                return {state.budget.unit: (state.settled, state.held) for state in states}
            await asyncio.sleep(0.05)
        raise AssertionError(f"holds are left open: {states}")


async def _sweep(ledger: RedisLedger, tenant_id: str, windows: tuple[BudgetWindow, ...]) -> None:
    """A free admission: every admission sweeps what has expired."""
    hold_id, work = secrets.token_hex(8), secrets.token_hex(32)
    request = AdmissionRequest(tenant_id, hold_id, work, windows, Amounts(), CacheDirective("bypass"))
    assert isinstance(await ledger.admit(request), Lead)
    await ledger.settle(Settlement(tenant_id, hold_id, work, "void", Amounts()), windows)


def _windows(caller: Caller) -> tuple[BudgetWindow, ...]:
    return list_budget_windows(caller, time.time_ns() // 1_000_000)


@pytest.mark.parametrize(
    ("step", "charged"),
    [
        ("before reserve", 0),
        ("reserve", 0),
        ("dispatch", "estimate"),
        ("upstream", "estimate"),
        ("settle", "actual"),
    ],
)
def test_a_process_killed_after_a_step_is_charged_exactly_what_it_may_have_cost(
    step: str, charged: int | str, tmp_path: Path, emulator: Running
) -> None:
    limits = [
        {"unit": unit, "window": "day", "limit": 1_000_000}
        for unit in ("image_tokens", "total_tokens", "images", "all_output_tokens")
    ]
    tenants = write_tenants(tmp_path / "tenants.yaml", {"crash": limits})
    environment = {
        **os.environ,
        "FLASHGATE_STATE_DIR": str(tmp_path / "state"),
        "FLASHGATE_TENANTS_FILE": str(tenants.path),
        "FLASHGATE_KEY_PEPPER": PEPPER,
        "FLASHGATE_EMULATOR_BASE_URL": emulator.url,
        "FLASHGATE_LEASE_S": str(LEASE_S),
        "CRASH_KEY": tenants.keys["crash"],
    }
    assert step in STEPS
    died = subprocess.run(
        [sys.executable, "-m", "tests.server.crash_after", step],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    caller = FileDirectory(tenants.path, PEPPER.encode(), load_catalogue()).authenticate(
        tenants.keys["crash"]
    )
    assert caller is not None
    books = asyncio.run(_books_after(tmp_path / "state", caller))
    total = books["total_tokens"][0]
    if charged == 0:
        assert books == dict.fromkeys(books, (0, 0))
        return
    assert books["image_tokens"] == (1120, 0)
    assert books["images"] == (1, 0)
    if charged == "estimate":
        assert total == pytest.approx(ESTIMATE, abs=4)
    else:
        assert 1120 + 414 <= total <= 1120 + 482 + 20
