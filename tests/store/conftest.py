"""One real server for all tests of the store; every test has a tenant of its own."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.ledger import journal as journal_module
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store.client import StoreClients, open_clients
from tests.store.books import Books
from tests.store.smalldisk import SmallDisk
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATIENCE_S = 10.0
"""Tests of anything but time-outs wait this long for a server on a busy machine."""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    with tempfile.TemporaryDirectory(prefix="fg") as folder, running_server(Path(folder)) as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has used."""
    return f"tenant-{next(_numbers)}"


@pytest.fixture
async def clients(server: ServerProcess) -> AsyncIterator[StoreClients]:
    async with open_clients(server.url, ledger_timeout_s=PATIENCE_S) as found:
        yield found


@pytest.fixture
async def books(clients: StoreClients, tenant: str) -> AsyncIterator[Books]:
    """A ledger with default leases, seen through one tenant."""
    async with RedisLedger(clients.ledger, LedgerConfig(poll_s=30, deadline_s=PATIENCE_S)) as ledger:
        yield Books(ledger, clients.ledger, tenant)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> type[SmallDisk]:
    """The disk of every journal that is opened from now on."""
    monkeypatch.setattr(journal_module, "FileIO", SmallDisk)
    monkeypatch.setattr(SmallDisk, "room", 1 << 30)
    return SmallDisk
