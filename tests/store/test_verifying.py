"""Verifying finds every counter that is wrong, and nothing in books that are right."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.domain.budget import Amounts, Budget
from app.generation.ports import Lead
from app.ledger.hold_records import HoldRecord
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.verifying import list_ledger_tenants, read_events, read_snapshot
from tests.store.books import DAY, ONE, Books, until

if TYPE_CHECKING:
    from pathlib import Path

    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

BUDGETS = (DAY, Budget("images", "month", 1000), Budget("usd", "lifetime", 10**12))


@pytest.fixture
def busy(books: Books) -> Books:
    return Books(books.ledger, books.client, books.tenant, BUDGETS)


async def spend(books: Books, count: int = 12) -> None:
    """Holds that end in every way, some of them late."""
    chance = random.Random(1)
    for number in range(count):
        hold = f"h{number}"
        amounts = Amounts(chance.randrange(1, 90), 1, 1, chance.randrange(10**9))
        assert isinstance(await books.admit(hold, amounts=amounts), Lead)
        if number % 4:
            await books.dispatch(hold)
        if number % 5 == 0:
            await books.expire(hold)
        if number % 7 != 4:
            used = amounts._replace(image_tokens=chance.randrange(1, 120))
            await books.settle(hold, used, ("settle", "void", "charge")[number % 3])


async def test_books_that_were_spent_from_in_every_way_balance(busy: Books) -> None:
    await spend(busy)
    found = await read_snapshot(busy.client, busy.tenant)
    assert found.find_differences() == []
    assert {hold.state for hold in found.holds} > {"voided", "charged", "held", "dispatched"}
    assert busy.tenant in await list_ledger_tenants(busy.client)


@pytest.mark.parametrize(
    ("field", "what"),
    [("t|output_tokens|day", "settled"), ("t|images|month", "held"), ("t|usd|lifetime", "settled")],
)
async def test_a_counter_that_is_wrong_by_one_is_found(busy: Books, field: str, what: str) -> None:
    await spend(busy)
    [name] = {
        name
        for name in await busy.client.hkeys(busy.key("win"))
        if name.startswith(field) and name[-2:] == f":{what[0]}"
    }
    await busy.client.hincrby(busy.key("win"), name, 1)
    [found] = (await read_snapshot(busy.client, busy.tenant)).find_differences()
    assert (found.counter, found.what, found.stands - found.counted) == (name[:-2], what, 1)


async def test_a_hold_that_vanished_is_found(busy: Books) -> None:
    await spend(busy)
    await busy.client.hdel(busy.key("res"), "h2")
    assert {found.what for found in (await read_snapshot(busy.client, busy.tenant)).find_differences()} == {
        "settled"
    }
    await busy.client.zrem(busy.key("exp"), "h4")
    assert "leased" in {
        found.what for found in (await read_snapshot(busy.client, busy.tenant)).find_differences()
    }


async def test_books_still_balance_when_old_holds_were_pruned(clients: StoreClients, tenant: str) -> None:
    async with RedisLedger(clients.ledger, LedgerConfig(keep_s=0, deadline_s=10)) as ledger:
        books = Books(ledger, clients.ledger, tenant, BUDGETS)
        await spend(books)

        async def pruned() -> bool:
            await books.admit(f"more-{await books.client.hlen(books.key('res'))}", amounts=Amounts())
            return bool(await books.client.hlen(books.key("res")) < 12)

        await until(pruned)
        found = await read_snapshot(books.client, tenant)
        assert found.find_differences() == []
        assert any(counter.get("p", 0) > 0 for counter in found.counters.values())


async def test_every_hold_is_exported_as_it_is(busy: Books) -> None:
    await spend(busy)
    events = [event async for event in read_events(busy.client, busy.tenant, "test")]
    assert [event["data"]["hold_id"] for event in events] == [f"h{n}" for n in range(12)]
    assert len({event["id"] for event in events}) == 12
    exported = {hold.hold_id: hold for _, hold in map(HoldRecord.from_event, events)}
    assert exported == {hold.hold_id: hold for hold in (await read_snapshot(busy.client, busy.tenant)).holds}


async def test_replaying_an_export_twice_and_shuffled_gives_the_same_totals(busy: Books) -> None:
    await spend(busy)
    earlier = [event async for event in read_events(busy.client, busy.tenant, "test")]
    for hold in (await read_snapshot(busy.client, busy.tenant)).holds:
        if hold.open:
            await busy.settle(hold.hold_id)
    exported = [*earlier, *[event async for event in read_events(busy.client, busy.tenant, "test")]]
    random.Random(2).shuffle(exported)
    order = ["held", "dispatched", "expired", "charged", "settled", "voided"]
    last: dict[str, HoldRecord] = {}
    for event in exported:
        _, found = HoldRecord.from_event(event)
        before = last.get(found.hold_id)
        if before is None or order.index(before.state) < order.index(found.state):
            last[found.hold_id] = found
    assert sum(hold.booked.image_tokens for hold in last.values()) == (await busy.totals())[0][0]


def flashgate(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"FLASHGATE_REDIS_URL": url, "FLASHGATE_STATE_DIR": str(folder), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "app", "ledger", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_says_whether_books_balance_and_exports_them(
    busy: Books, server: ServerProcess, tmp_path: Path
) -> None:
    await spend(busy)
    tenant = ("--tenant", busy.tenant)
    well = flashgate(server.url, tmp_path, "verify", *tenant)
    assert (well.returncode, well.stdout) == (0, "The ledger balances: 1 tenants, 3 windows, 12 holds.\n")
    rows = list(
        csv.DictReader(
            io.StringIO(flashgate(server.url, tmp_path, "events", "--format", "csv", *tenant).stdout)
        )
    )
    lines = flashgate(server.url, tmp_path, "events", *tenant).stdout.splitlines()
    assert [row["id"] for row in rows] == [json.loads(line)["id"] for line in lines]
    assert sum(int(row["settled_images"] or 0) for row in rows if row["state"] == "settled") > 0
    name = next(name for name in await busy.client.hkeys(busy.key("win")) if name.endswith(":s"))
    await busy.client.hincrby(busy.key("win"), name, 5)
    wrong = flashgate(server.url, tmp_path, "verify", *tenant)
    assert wrong.returncode == 1
    assert name[:-2] in wrong.stdout
    assert flashgate("unix:///nowhere.sock", tmp_path, "verify").returncode == 2
    assert ONE
