"""Budgets and rates of end users: exact like all others, bounded in number, and gone when they are over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.domain.budget import NOTHING, Budget
from app.domain.rate import RateLimit
from app.generation.ports import Absent, Admission, Crowded, Hit, Lead, Limited, Refused
from app.ledger.restoring import Restorer
from app.ledger.scripting import Scripts
from app.ledger.verifying import read_snapshot
from tests.store.books import DAY, Books, windows

if TYPE_CHECKING:
    from app.domain.budget import BudgetWindow
    from app.generation.ports import AdmissionRequest, Settled
    from app.store.client import StoreClients

THREE = Budget("images", "day", 3, "user")
RATE = RateLimit("requests", "user", "", 6, 2)
DAY_MS = 86_400_000
MINUTES_10_MS = 600_000


def windows_of(user: str, *budgets: Budget) -> tuple[BudgetWindow, ...]:
    """The tenant's day and the budgets of one user."""
    return (*windows(DAY), *windows(*(budgets or (THREE,)), owner=f"u:{user}"))


def request_of(books: Books, user: str, hold: str, *budgets: Budget, **options: Any) -> AdmissionRequest:
    given = {name: options.pop(name) for name in ("users_max", "rates", "requests") if name in options}
    return replace(books.request(hold, **options), windows=windows_of(user, *budgets), **given)


async def admit(books: Books, user: str, hold: str, *budgets: Budget, **options: Any) -> Admission:
    return await books.ledger.admit(request_of(books, user, hold, *budgets, **options))


def rate_of(user: str, kind: Any = "requests", limit: int = 6, burst: int = 2) -> tuple[RateLimit, ...]:
    return (RateLimit(kind, "user", f"u:{user}|{kind}", limit, burst),)


async def let_pass(books: Books, *names: str) -> None:
    """As if these windows, rates and users had ended, by the store's clock."""
    for name in names or ("users", "gc"):
        members = await books.client.zrange(books.key(name), 0, -1)
        ours = [each for each in members if name == "users" or ";u:" in each]
        if ours:
            await books.client.zadd(books.key(name), dict.fromkeys(ours, 1))


async def read_counters(books: Books, user: str) -> dict[str, str]:
    entries = await books.client.hgetall(books.key("win"))
    return {name: value for name, value in entries.items() if name.startswith(f"u:{user}|")}


async def settle(books: Books, user: str, hold: str, **options: Any) -> Settled:
    own = replace(books)
    own.fingerprints[hold] = books.fingerprints[hold]
    return await own.settle(hold, **options)


async def test_each_user_has_windows_of_its_own_under_the_tenants(books: Books) -> None:
    for number in range(3):
        assert isinstance(await admit(books, "ann", f"a{number}"), Lead)
    refused = await admit(books, "ann", "a3")
    assert isinstance(refused, Refused)
    assert [window.budget.scope for window in refused.windows if window.refuses] == ["user"]
    assert isinstance(await admit(books, "bob", "b0"), Lead)
    assert await books.totals() == [(0, 4 * 1120)], "the tenant pays for both"
    await settle(books, "ann", "a0", outcome="void")
    assert isinstance(await admit(books, "ann", "a4"), Lead), "what was not used is given back"


async def test_a_hundred_requests_at_once_never_exceed_one_users_budget(books: Books) -> None:
    rich = books.limited(10**9)
    answers = await asyncio.gather(*(admit(rich, "ann", f"h{number}") for number in range(100)))
    assert [type(answer) for answer in answers].count(Lead) == 3
    holds = [answer.hold_id for answer in answers if isinstance(answer, Lead)]
    await asyncio.gather(*(settle(rich, "ann", hold) for hold in holds))
    (_, window) = await books.ledger.get_windows(books.tenant, windows_of("ann"))
    assert (window.settled, window.held) == (3, 0)
    assert (await read_snapshot(books.client, books.tenant)).find_differences() == []


async def test_at_the_bound_a_new_user_is_refused_and_the_others_go_on(books: Books) -> None:
    for user in ("ann", "bob"):
        assert isinstance(await admit(books, user, user, users_max=2), Lead)
    before = await books.dump()
    answer = await admit(books, "cyd", "c0", users_max=2)
    assert isinstance(answer, Crowded)
    assert (answer.kind, answer.most) == ("users", 2)
    assert 0 < answer.retry_after_s <= 90_000
    assert await books.dump() == before, "a refusal writes nothing"
    assert isinstance(await admit(books, "ann", "a1", users_max=2), Lead)
    await let_pass(books, "users")
    assert isinstance(await admit(books, "cyd", "c1", users_max=2), Lead)
    assert await books.client.zcard(books.key("users")) == 1


async def test_what_is_cached_needs_no_place(books: Books) -> None:
    await admit(books, "ann", "a0", users_max=1, fingerprint="work")
    await books.publish("a0")
    before = await books.dump()
    assert isinstance(await admit(books, "bob", "b0", users_max=1, fingerprint="work"), Hit)
    assert await books.dump() == before, "a hit without a rate leaves nothing of its user"
    look = replace(request_of(books, "bob", "b1", users_max=1), may_lead=False)
    assert isinstance(await books.ledger.admit(look), Crowded), "an operation is refused before it begins"
    assert isinstance(await books.ledger.peek(request_of(books, "bob", "b2", users_max=1)), Absent)


async def test_a_budget_that_only_counts_refuses_nobody_at_the_bound(books: Books) -> None:
    shadow = replace(THREE, mode="shadow", limit=0)
    for user in ("ann", "bob"):
        assert isinstance(await admit(books, user, user, shadow, users_max=1), Lead)
    await settle(books, "bob", "bob")
    assert await read_counters(books, "ann")
    assert not await read_counters(books, "bob"), "beyond the bound nothing is counted"
    assert (await read_snapshot(books.client, books.tenant)).find_differences() == []


async def test_a_rate_is_each_users_and_its_bucket_goes_when_it_is_empty(books: Books) -> None:
    await admit(books, "ann", "a0", DAY, fingerprint="work")
    await books.publish("a0")

    async def hit(user: str, number: int, users_max: int = 3) -> Admission:
        options = {"rates": rate_of(user), "users_max": users_max, "fingerprint": "work"}
        return await admit(books, user, f"{user}-{number}", **options)

    assert [type(await hit("bob", number)) for number in range(3)] == [Hit, Hit, Limited]
    assert isinstance(await hit("cyd", 0), Hit)
    assert isinstance(await hit("dan", 0), Crowded), "ann, bob and cyd are active"
    await let_pass(books)
    for number in range(20):
        assert isinstance(await hit(f"user{number}", 0), Hit)
        await let_pass(books)
    buckets = [name for name in await books.client.hkeys(books.key("win")) if name.endswith(":t")]
    assert len(buckets) <= 2, "what is over is deleted, although nothing but hits came"
    assert await books.client.zcard(books.key("users")) <= 1


async def test_a_cap_counts_each_users_open_holds(books: Books) -> None:
    cap = {"rates": rate_of("ann", "concurrent", 1, 0)}
    assert isinstance(await admit(books, "ann", "a0", **cap), Lead)
    assert isinstance(await admit(books, "ann", "a1", **cap), Limited)
    assert isinstance(await admit(books, "bob", "b0", rates=rate_of("bob", "concurrent", 1, 0)), Lead)
    await settle(books, "ann", "a0")
    assert isinstance(await admit(books, "ann", "a2", **cap), Lead)


async def test_windows_of_users_are_kept_ten_minutes_after_their_end(books: Books) -> None:
    await admit(books, "ann", "a0")
    due = dict(await books.client.zrange(books.key("gc"), 0, -1, withscores=True))
    kept = [
        due[f"w;{window.field}|{window.spans[1].start_ms}"] - window.spans[1].end_ms
        for window in windows_of("ann")
    ]
    assert kept == [DAY_MS, MINUTES_10_MS]
    await settle(books, "ann", "a0")
    await let_pass(books)
    await books.admit("later")
    assert not await read_counters(books, "ann")


async def test_a_late_settlement_brings_no_forgotten_window_back(books: Books) -> None:
    await admit(books, "ann", "a0")
    await books.dispatch("a0")
    await books.expire("a0")
    assert await books.totals() == [(1120, 0)], "charged"
    await let_pass(books)
    await books.admit("later")
    assert not await read_counters(books, "ann")
    late = await settle(books, "ann", "a0", amounts=NOTHING)
    assert (late.state, late.late) == ("settled", True)
    assert not await read_counters(books, "ann")
    assert (await books.totals())[0][0] == 0, "the tenant's window is corrected"
    assert (await read_snapshot(books.client, books.tenant)).find_differences() == []


async def test_a_window_with_an_open_hold_is_not_forgotten(books: Books) -> None:
    await admit(books, "ann", "a0")
    await let_pass(books)
    await books.admit("later")
    await settle(books, "ann", "a0")
    (_, window) = await books.ledger.get_windows(books.tenant, windows_of("ann"))
    assert (window.settled, window.held) == (1, 0)


async def test_users_come_back_with_what_a_lost_store_knew_of_them(
    books: Books, clients: StoreClients
) -> None:
    """From a checkpoint, and from holds that came after it."""
    restorer = Restorer(clients.ledger, Scripts(clients.ledger), books.ledger.config)
    await admit(books, "ann", "a0")
    await settle(books, "ann", "a0")
    checkpoint = await restorer.take_checkpoint(books.tenant, "j1")
    for number in range(2):
        await admit(books, "bob", f"b{number}")
    await settle(books, "bob", "b0")
    holds = (await read_snapshot(books.client, books.tenant)).holds
    later = [hold for hold in holds if hold.hold_id != "a0"]
    active = set(await books.client.zrange(books.key("users"), 0, -1))
    await books.client.delete(
        *[books.key(name) for name in ("res", "win", "exp", "gc", "use", "lead", "users")]
    )

    await restorer.rebuild(books.tenant, later, "epoch", 0, checkpoint=checkpoint)
    assert set(await books.client.zrange(books.key("users"), 0, -1)) == active == {"ann", "bob"}
    (_, ann), (_, bob) = [
        await books.ledger.get_windows(books.tenant, windows_of(user)) for user in ("ann", "bob")
    ]
    assert [(each.settled, each.held) for each in (ann, bob)] == [(1, 0), (1, 1)]
    books.ledger.epochs.clear()
    assert isinstance(await admit(books, "cyd", "c0", users_max=2), Crowded)
    assert [type(await admit(books, "bob", f"b{number}")) for number in range(2, 4)] == [Lead, Refused]
    assert (await read_snapshot(books.client, books.tenant)).find_differences() == []


async def test_a_user_costs_a_kilobyte_of_store(books: Books, clients: StoreClients) -> None:
    """With two budgets and a rate each. The first half is not measured: it pays for the tables."""
    month = replace(THREE, window="month")

    async def measure() -> int:
        names = [books.key(name) for name in ("win", "gc", "users")]
        return sum([await clients.ledger.memory_usage(name, samples=0) or 0 for name in names])

    async def come(first: int) -> None:
        for number in range(first, first + 500):
            user = f"{number:016d}"
            request = replace(books.request(user), rates=rate_of(user))
            request = replace(request, windows=windows(THREE, month, owner=f"u:{user}"))
            assert isinstance(await books.ledger.admit(request), Lead)
            await settle(books, user, user)

    await come(0)
    before = await measure()
    await come(500)
    each = (await measure() - before) / 500
    assert 300 < each < 1200, each
