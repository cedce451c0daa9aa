"""A ledger that the first version wrote: every script of this one works on it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.attempt import Attempt
from app.domain.budget import Budget
from app.domain.rate import RateLimit
from app.generation.ports import Lead
from app.ledger.adjustments import RedisBudgetAdjustments
from app.ledger.policy import LedgerConfig
from app.ledger.purging import RedisCache
from app.ledger.redis import RedisLedger
from app.ledger.restoring import Restorer
from app.ledger.verifying import read_snapshot
from app.store.client import open_clients
from tests.store.books import DAY, ONE, Books, now_ms
from tests.store.test_durable import own_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.storeserver import ServerProcess

__all__ = ["own_server"]

FIXTURE = Path(__file__).parents[1] / "fixtures/ledger/first_version.json"
DAY_OF_FIXTURE = 1_795_734_000_000
"""Its windows begin here: a day of Berlin."""
BUDGETS = (DAY, Budget("usd", "lifetime", 10**12))
CAP = RateLimit("concurrent", "tenant", "t|concurrent", 9, 0)


async def load(client: Any, shift_ms: int) -> None:
    """What the first version left, as if it had been written today."""

    def moved(text: str) -> str:
        return re.sub(r"\b179\d{10}\b", lambda found: str(int(found[0]) + shift_ms), text)

    for name, stored in json.loads(FIXTURE.read_text()).items():
        value = stored["value"]
        if stored["type"] == "hash":
            await client.hset(name, mapping={moved(key): moved(text) for key, text in value.items()})
        elif stored["type"] == "string":
            await client.set(name, moved(value), px=60_000)
        elif stored["type"] == "zset":
            scores = {moved(member): float(moved(str(int(score)))) for member, score in value.items()}
            await client.zadd(name, scores)
        else:
            for entry, fields in value:
                await client.xadd(name, {key: moved(text) for key, text in fields.items()}, id=moved(entry))
    for hold in await client.zrange("fg:{acme}:exp", 0, -1):
        await client.zadd("fg:{acme}:exp", {hold: now_ms() + 60_000})


@pytest.fixture
async def first(own_server: ServerProcess) -> AsyncIterator[Books]:
    async with (
        open_clients(own_server.url) as clients,
        RedisLedger(clients.ledger, LedgerConfig(deadline_s=10)) as ledger,
    ):
        books = Books(ledger, clients.ledger, "acme", BUDGETS)
        (window, _) = books.windows
        await load(clients.ledger, window.spans[1].start_ms - DAY_OF_FIXTURE)
        for hold in ("held", "dispatched", "settled", "late", "voided", "charged", "expired", "capped"):
            books.fingerprints[hold] = f"work-{hold}"
        yield books


async def test_every_script_works_on_what_the_first_version_has_written(first: Books) -> None:
    assert await first.totals() == [(3887, 3 * 1120), (4 * ONE.usd, 3 * ONE.usd)]
    assert (await read_snapshot(first.client, "acme")).find_differences() == []
    day, lifetime = await first.ledger.get_windows("acme", first.windows)
    assert (day.budget.limit, lifetime.credit) == (22_400, 77)
    assert isinstance(await first.admit("new"), Lead)
    assert await first.dispatch("held")
    assert (await first.settle("held", ONE._replace(image_tokens=1))).state == "settled"
    assert (await first.settle("dispatched", outcome="void")).state == "voided"
    assert (await first.settle("settled", ONE._replace(image_tokens=747, all_output_tokens=0))).repeated
    assert (await first.settle("voided", outcome="void")).repeated
    assert (await first.settle("expired", ONE._replace(image_tokens=2))).late
    assert (await first.settle("charged", ONE._replace(image_tokens=3))).late
    (cap,) = await first.ledger.get_rates("acme", (CAP,))
    assert cap.remaining == 8
    assert (await first.settle("capped", ONE._replace(image_tokens=4))).state == "settled"
    (cap,) = await first.ledger.get_rates("acme", (CAP,))
    assert cap.remaining == 9
    assert (await first.totals())[0] == (747 + 900 + 1120 + 1 + 2 + 3 + 4, 1120)
    assert (await read_snapshot(first.client, "acme")).find_differences() == []
    assert not await first.client.exists(first.key("log"))

    adjustments = RedisBudgetAdjustments(first.client, 10)
    await adjustments.add_credit("acme", first.windows[1], 77, "c1")
    window = await adjustments.add_credit("acme", first.windows[1], 1, "c2")
    assert window.credit == 78, "the first version's credit is known by its id"
    # A cached result promises nothing across versions; that of the first is purged like any other.
    await RedisCache(first.client).purge("acme", "work-p")
    assert isinstance(await first.admit("again", "work-p"), Lead)
    attempt = Attempt("origin", "x", repeats=True, keep_s=60)
    assert isinstance(await first.ledger.admit(replace(first.request("x"), attempt=attempt)), Lead)
    await first.ledger.note_delivery("acme", attempt, "delivered")


async def test_a_lost_ledger_of_the_first_version_is_rebuilt(first: Books) -> None:
    before = await first.totals()
    holds = (await read_snapshot(first.client, "acme")).holds
    restorer = Restorer(first.client, first.ledger.scripts, LedgerConfig())
    await first.admit("new")
    await first.settle("new", outcome="void")
    checkpoint = await restorer.take_checkpoint("acme", "journal")
    assert checkpoint is not None
    for told, told_checkpoint in ((holds, checkpoint), ((), checkpoint), (holds, None)):
        await first.client.flushall()
        await restorer.rebuild("acme", told, "anew", 0, checkpoint=told_checkpoint)
        held = 3 if told else 0
        expected = [(settled, held * each // 3) for settled, each in before]
        assert await first.totals() == expected
        assert (await read_snapshot(first.client, "acme")).find_differences() == []


async def test_dead_holds_of_the_first_version_end_as_they_would_have(first: Books) -> None:
    await first.expire("held", "dispatched", "capped")
    assert isinstance(await first.admit("new"), Lead)
    assert (await first.totals())[0] == (3887 + 2 * 1120, 1120)
    assert (await read_snapshot(first.client, "acme")).find_differences() == []
