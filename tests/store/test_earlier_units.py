"""What store and journal hold from before, when image_tokens were called output_tokens, goes on counting."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from app.cards import load_catalogue
from app.domain.budget import Amounts, Budget
from app.domain.generation import Spent, Usage
from app.domain.report import encode_day, sum_rows
from app.generation.ports import Lead, Refused
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.codec import decode_spent, encode_spent
from app.ledger.hold_records import Counter, HoldRecord
from app.ledger.verifying import read_snapshot
from app.registry.directory import StoredDirectory
from app.store import keys
from app.tenants.directory import MemoryDirectory
from app.tenants.documents import encode_tenant
from tests.store.books import ONE, Books, now_ms, windows
from tests.store.test_registry import PEPPER, tenant_of
from tests.store.test_reports import rows_of, settle, today

if TYPE_CHECKING:
    from app.store.client import StoreClients

DAY = Budget("image_tokens", "day", 3 * 1120)
DOLLARS = Budget("usd", "day", 10**15)
OUTPUT = Budget("all_output_tokens", "day", 10**6)


@pytest.fixture
def old(books: Books) -> Books:
    """Books whose budgets are of today; ``write`` puts into them what an earlier version did."""
    return replace(books, budgets=(DAY, DOLLARS, OUTPUT))


async def write(books: Books, hold: str, state: str) -> None:
    """A hold of 1120 image tokens that is dispatched or settled, and its counters, with four amounts each."""
    start, end = books.windows[0].spans[1]
    names = [f"t|output_tokens|day|{start}", f"t|usd|day|{start}"]
    counters = ",".join(
        f"{unit}@{start}@{end}@{name.rpartition('|')[0]}" for unit, name in zip((1, 4), names, strict=True)
    )
    act = "1120,1700,1,8" if state == "s" else ""
    record = f"{state};f;{now_ms()};work-{hold};1120,1800,1,9;{act};{counters};2"
    await books.client.hset(books.key("res"), hold, record)
    kind, amounts = ("s", (1120, 8)) if state == "s" else ("h", (1120, 9))
    for name, amount in zip(names, amounts, strict=True):
        await books.client.hincrby(books.key("win"), f"{name}:{kind}", amount)
    if state == "d":
        await books.client.zadd(books.key("exp"), {hold: now_ms() + 60_000})
    books.fingerprints[hold] = f"work-{hold}"


async def test_holds_and_counters_go_on_in_the_same_window(old: Books) -> None:
    await write(old, "settled", "s")
    await write(old, "sent", "d")
    assert await old.totals() == [(1120, 1120), (8, 9), (0, 0)]
    assert isinstance(await old.admit("new"), Lead)
    assert isinstance(await old.admit("too-much"), Refused)
    await old.settle("sent")
    await old.settle("new")
    assert await old.totals() == [(3 * 1120, 0), (8 + 2 * ONE.usd, 0), (ONE.all_output_tokens, 0)]
    assert (await read_snapshot(old.client, old.tenant)).find_differences() == []


@pytest.mark.parametrize("outcome", ["void", "charge", "sweep", "late"])
async def test_a_hold_from_before_ends_in_every_way(old: Books, outcome: Any) -> None:
    await write(old, "sent", "d")
    if outcome in {"sweep", "late"}:
        await old.expire("sent")
    if outcome == "late":
        await old.totals()
        assert (await old.settle("sent", ONE._replace(image_tokens=747))).late
    elif outcome != "sweep":
        await old.settle("sent", outcome=outcome)
    booked = {"void": (0, 0), "late": (747, ONE.usd)}.get(outcome, (1120, 9))
    assert await old.totals() == [(booked[0], 0), (booked[1], 0), (0, 0)]
    assert (await read_snapshot(old.client, old.tenant)).find_differences() == []


async def test_credit_and_another_limit_from_before_stay_in_force(books: Books) -> None:
    prepaid = Budget("image_tokens", "lifetime", 0)
    fields = {"t|output_tokens|lifetime:c": "2240", "t|output_tokens|day:l": f"5000;{now_ms() + 60_000}"}
    await books.client.hset(books.key("win"), mapping=fields)
    [lifetime, day] = await books.ledger.get_windows(books.tenant, windows(prepaid, DAY))
    assert (lifetime.credit, day.budget.limit) == (2240, 5000)
    adjustments = RedisBudgetAdjustments(books.client, 10)
    added = await adjustments.add_credit(books.tenant, windows(prepaid)[0], 10, "more")
    assert added.credit == 2250


async def test_rows_of_usage_from_before_are_read_and_added_to(old: Books) -> None:
    row = f"{encode_day(today())}|k1|flash|1K"
    await old.client.hset(old.key("use"), row, "2,2240,3400,2,99,11,0,900,40,1,747,800,1,44")
    await old.admit("new")
    await settle(old, "new")
    spent = sum_rows(row for row in await rows_of(old) if row.label is None)
    assert (spent.requests, spent.image_tokens, spent.saved_image_tokens) == (3, 3 * 1120, 747)
    assert spent.output_tokens == 2240 + 900 + 40 + ONE.all_output_tokens


def test_events_of_a_journal_from_before_are_read() -> None:
    was = HoldRecord.decode("a", "s;f;17;work;747,750,1,9;747,749,1,8;1@1@2@t|output_tokens|day;2")
    event = was.build_event("acme", 20, "here")
    for amounts in (event["data"]["estimate"], event["data"]["actual"]):
        amounts["output_tokens"] = amounts.pop("image_tokens")
        del amounts["all_output_tokens"]
    event["data"]["windows"][0]["unit"] = "output_tokens"
    assert HoldRecord.from_event(event) == ("acme", was)
    assert was.counters == (Counter("image_tokens", 1, 2, "t|output_tokens|day"),)
    assert was.act == Amounts(747, 749, 1, 8)


@pytest.mark.parametrize(
    ("cost", "usage"),
    [
        ("747,800,1,9,7,0,747,40,6,0,0,0", Usage(7, 0, 747, 40, 6)),
        ("747,800,1,9,7,0,747,40,6,0,0,0,3", Usage(7, 0, 747, 40, 6, search_queries=3)),
        ("747,800,1,9", Usage(53, image_output=747, estimated=True)),
        ("747,800,1,9,780", Usage(20, image_output=747, text_output=33, estimated=True)),
    ],
    ids=["with tokens", "with queries", "amounts alone", "amounts alone, of today"],
)
def test_what_a_key_had_cost_is_read_in_every_form(cost: str, usage: Usage) -> None:
    assert decode_spent(cost) == Spent(usage, 9)


def test_what_a_key_had_cost_is_written_as_replicas_of_before_read_it() -> None:
    assert encode_spent(Spent(Usage(7, 0, 747, 40, 6), 9)) == "747,800,0,9,7,0,747,40,6,0,0,0"
    searched = Spent(Usage(7, 0, 747, 40, 6, search_queries=3), 9)
    assert decode_spent(encode_spent(searched)) == searched


async def test_a_stored_tenant_with_the_word_of_before_is_read_and_logged_once(
    clients: StoreClients, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    client: Any = clients.ledger
    text = encode_tenant(tenant_of(tenant, limit=7), load_catalogue())
    assert text.count("image_tokens") == 1
    await client.hset(keys.TENANTS, tenant, "1;" + text.replace("image_tokens", "output_tokens"))
    directory = StoredDirectory(MemoryDirectory((), PEPPER), client, PEPPER, load_catalogue())
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await client.incr(keys.TENANTS_VERSION)
            await directory.refresh()
    found = directory.find(tenant)
    assert found is not None
    assert found.tenant.budgets == (Budget("image_tokens", "day", 7),)
    told = [entry for entry in caplog.records if getattr(entry, "tenant", None) == tenant]
    assert [entry.getMessage() for entry in told] == [
        "a stored tenant has budgets in output_tokens, which are read as image_tokens"
    ]
