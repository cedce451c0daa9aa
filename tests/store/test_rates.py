"""Request rates and caps on open holds, decided by the admission script on the store's clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain.rate import RateLimit
from app.generation.ports import Absent, Admission, Follow, Hit, Lead, Limited, Refused
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store.client import open_clients
from tests.store.books import Books, now_ms

if TYPE_CHECKING:
    from tests.storeserver import ServerProcess

MINUTE_MS = 60_000
SIX = RateLimit("requests", "tenant", "t|requests", 6, 3)
TWO = RateLimit("concurrent", "tenant", "t|concurrent", 2)
ONE_OF_KEY = RateLimit("concurrent", "key", "k:k1|concurrent", 1)


async def admit(books: Books, hold: str, *rates: RateLimit, requests: int = 1, **options: Any) -> Admission:
    request = replace(books.request(hold, **options), rates=rates, requests=requests)
    return await books.ledger.admit(request)


async def pass_time(books: Books, seconds: float, rate: RateLimit = SIX) -> None:
    """As if this much time had gone by: the bucket empties earlier by it."""
    await books.client.hincrby(books.key("win"), f"{rate.field}:t", -int(seconds * 1_000_000))


async def test_a_burst_is_admitted_and_then_one_at_a_time(books: Books) -> None:
    rich = books.limited(10**9)
    answers = [await admit(rich, f"h{n}", SIX) for n in range(4)]
    assert [type(item) for item in answers] == [Lead, Lead, Lead, Limited]
    assert [item.rates[0].remaining for item in answers] == [2, 1, 0, 0]
    refused = answers[-1].rates[0]
    assert refused.refused
    assert 9_000 < refused.retry_in_ms <= 10_000
    assert 29_000 < refused.full_in_ms <= 30_000
    await pass_time(books, refused.retry_in_ms / 1000)
    assert isinstance(await admit(rich, "h4", SIX), Lead)
    assert isinstance(await admit(rich, "h5", SIX), Limited)


async def test_a_refusal_by_the_rate_writes_nothing(books: Books) -> None:
    for n in range(3):
        await admit(books, f"h{n}", SIX)
    before = await books.dump()
    assert isinstance(await admit(books, "h3", SIX), Limited)
    assert await books.dump() == before


async def test_a_refusal_by_a_budget_costs_no_request(books: Books) -> None:
    refused = await admit(books.limited(1), "a", SIX)
    assert isinstance(refused, Refused)
    assert refused.rates[0].remaining == 3
    assert await books.dump() == {}


async def test_what_the_cache_serves_counts_as_a_request_and_needs_no_place(books: Books) -> None:
    await admit(books, "a", SIX, ONE_OF_KEY, fingerprint="work")
    follower = await admit(books, "b", SIX, ONE_OF_KEY, fingerprint="work")
    assert isinstance(follower, Follow)
    assert [state.remaining for state in follower.rates] == [1, 0]
    await books.publish("a")
    hit = await admit(books, "c", SIX, ONE_OF_KEY, fingerprint="work")
    assert isinstance(hit, Hit)
    assert [state.remaining for state in hit.rates] == [0, 1]
    assert isinstance(await admit(books, "d", SIX, fingerprint="work"), Limited)


async def test_a_request_that_asks_again_is_counted_once(books: Books) -> None:
    await admit(books, "a", SIX, fingerprint="work")
    for n in range(10):
        again = await admit(books, f"f{n}", SIX, fingerprint="work", following="a", requests=0)
        assert isinstance(again, Follow)
        assert again.rates[0].remaining == 2


async def test_looking_counts_nothing(books: Books) -> None:
    before = await books.dump()
    seen = await books.ledger.peek(replace(books.request("a"), rates=(SIX, TWO)))
    assert isinstance(seen, Absent)
    assert [state.remaining for state in seen.rates] == [3, 2]
    assert await books.ledger.get_rates(books.tenant, (SIX, TWO)) == seen.rates
    assert await books.dump() == before


async def test_no_more_holds_are_open_than_the_cap_allows(books: Books) -> None:
    first, second, third = [await admit(books, hold, TWO) for hold in "abc"]
    assert [type(item) for item in (first, second, third)] == [Lead, Lead, Limited]
    assert third.rates[0].refused
    await books.settle("a")
    assert isinstance(await admit(books, "d", TWO), Lead)
    await books.settle("b", outcome="void")
    await books.dispatch("d")
    await books.settle("d", outcome="charge")
    (state,) = await books.ledger.get_rates(books.tenant, (TWO,))
    assert state.remaining == 2
    assert await books.client.hget(books.key("win"), "t|concurrent|0:s") is None, "a place is never booked"


async def test_a_place_is_never_leaked_by_a_death(books: Books) -> None:
    """Sent or not: the lease that ends the hold gives its place back, and a live request is not refused."""
    for hold in ("a", "b"):
        await admit(books, hold, TWO, ONE_OF_KEY if hold == "a" else TWO)
    await books.dispatch("a")
    await books.expire("a", "b")
    admitted = await admit(books, "c", TWO, ONE_OF_KEY)
    assert isinstance(admitted, Lead)
    assert [state.remaining for state in admitted.rates] == [1, 0]
    assert await books.client.hget(books.key("win"), "t|concurrent|0:s") is None, "a place is never booked"


async def test_a_late_settlement_gives_no_place_back_twice(books: Books) -> None:
    await admit(books, "a", TWO)
    await books.dispatch("a")
    await books.expire("a")
    await books.totals()
    assert (await books.settle("a")).late
    (state,) = await books.ledger.get_rates(books.tenant, (TWO,))
    assert state.remaining == 2


async def test_repeating_an_admission_takes_one_place_and_counts_once(books: Books) -> None:
    for _ in range(3):
        assert isinstance(await admit(books, "a", SIX, TWO), Lead)
    states = await books.ledger.get_rates(books.tenant, (SIX, TWO))
    assert [state.remaining for state in states] == [2, 1]


async def test_a_lower_limit_takes_effect_at_once_and_nothing_turns_negative(books: Books) -> None:
    for hold in "abc":
        await admit(books, hold, replace(SIX, limit=6000, burst=6000), replace(TWO, limit=3))
    states = await books.ledger.get_rates(books.tenant, (replace(SIX, burst=1), ONE_OF_KEY, TWO))
    assert [state.remaining >= 0 for state in states] == [True] * 3
    assert isinstance(await admit(books, "d", TWO), Limited)


async def test_a_clock_that_was_set_back_never_leaves_more_than_a_full_bucket(books: Books) -> None:
    far = (now_ms() + 40 * 86_400_000) * 1000
    await books.client.hset(books.key("win"), f"{SIX.field}:t", str(far))
    (state,) = await books.ledger.get_rates(books.tenant, (SIX,))
    assert state.remaining == 0
    assert state.full_in_ms <= 30_000
    assert state.retry_in_ms <= 10_000


async def test_many_processes_together_are_admitted_no_more_than_the_rate_allows(
    server: ServerProcess, tenant: str
) -> None:
    rate = RateLimit("requests", "tenant", "t|requests", 600, 20)
    began = now_ms()
    async with open_clients(server.url, ledger_timeout_s=10) as clients:
        ledgers = [RedisLedger(clients.ledger, LedgerConfig(deadline_s=10)) for _ in range(4)]
        callers = [Books(ledger, clients.ledger, tenant, budgets=()) for ledger in ledgers]
        answers = await asyncio.gather(
            *(admit(callers[n % 4], f"h{n}", rate, mode="bypass") for n in range(200))
        )
    admitted = sum(isinstance(item, Lead) for item in answers)
    most = rate.burst + (now_ms() - began) * rate.limit / MINUTE_MS
    assert rate.burst <= admitted <= most + 1
