"""What a purge forgets, and that no leader, late or lucky, brings it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from app.domain.failure import Failure
from app.generation.ports import Absent, Failed, Follow, Hit, Lead
from app.ledger.purging import RedisCache
from app.store import keys
from tests.store.conftest import PATIENCE_S

if TYPE_CHECKING:
    from app.store.client import StoreClients
    from tests.store.books import Books

Scope = Literal["work", "tenant"]
BOTH = pytest.mark.parametrize("scope", ["work", "tenant"])


async def purge(clients: StoreClients, books: Books, scope: Scope) -> int:
    """Purge, and go on in a later millisecond: what begins in the same one counts as begun before."""
    cache = RedisCache(clients.ledger, PATIENCE_S)
    until = await cache.purge(books.tenant, "work" if scope == "work" else None)
    while await store_ms(clients) <= until:
        pass
    return until


async def store_ms(clients: StoreClients) -> int:
    seconds, micros = await clients.ledger.time()
    return int(seconds) * 1000 + int(micros) // 1000


@BOTH
async def test_a_purged_result_is_absent_and_is_made_anew(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    await purge(clients, books, scope)
    assert isinstance(await books.admit("q", "work", mode="only_if_cached"), Absent)
    assert isinstance(await books.admit("b", "work"), Lead)
    assert (await books.publish("b")).published
    hit = await books.admit("c", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.id == "gen_b"


async def test_other_work_and_other_tenants_keep_theirs(books: Books, clients: StoreClients) -> None:
    await books.admit("a", "other")
    await books.publish("a")
    await purge(clients, books, "work")
    await RedisCache(clients.ledger, PATIENCE_S).purge(f"{books.tenant}-b", None)
    assert isinstance(await books.admit("b", "other"), Hit)


@BOTH
async def test_nobody_follows_who_began_before_the_purge_and_its_result_is_not_kept(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.dispatch("early")
    await purge(clients, books, scope)
    await books.dispatch("early")  # its heartbeat goes on
    assert isinstance(await books.admit("late", "work"), Lead)
    await books.dispatch("early")
    follow = await books.admit("follower", "work")
    assert follow == Follow("late", follow.windows, follow.rates)
    assert not (await books.publish("early")).published
    assert isinstance(await books.admit("follower", "work", following="late"), Follow)
    assert (await books.publish("late")).published
    hit = await books.admit("follower", "work", following="late")
    assert isinstance(hit, Hit)
    assert hit.generation.id == "gen_late"


@BOTH
async def test_a_leader_from_before_publishes_nothing_even_where_its_successor_failed(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.dispatch("early")
    await purge(clients, books, scope)
    await books.admit("late", "work")
    await books.settle("late", outcome="void")
    settled = await books.publish("early")
    assert (settled.state, settled.published) == ("settled", False), "paid, and not kept"
    assert isinstance(await books.admit("next", "work"), Lead)


@BOTH
async def test_a_heartbeat_from_before_takes_no_lead_back_from_a_later_result(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.dispatch("early")
    await purge(clients, books, scope)
    await books.admit("late", "work")
    await books.publish("late")
    await books.dispatch("early")
    assert isinstance(await books.admit("anew", "work", mode="refresh"), Lead)
    await books.settle("anew", outcome="void")
    await books.dispatch("early")
    assert not (await books.publish("early")).published
    hit = await books.admit("next", "work")
    assert isinstance(hit, Hit)
    assert hit.generation.id == "gen_late"


@BOTH
async def test_a_leader_whose_lease_was_over_publishes_nothing_after_a_purge(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.dispatch("early")
    await books.expire("early")
    await books.totals()
    await purge(clients, books, scope)
    settled = await books.publish("early")
    assert (settled.late, settled.published) == (True, False)
    assert isinstance(await books.admit("next", "work"), Lead)


@BOTH
async def test_followers_of_a_leader_from_before_are_told_of_its_failure_or_lead_themselves(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.admit("follower", "work")
    await purge(clients, books, scope)
    failure = Failure("upstream_error", "It failed.")
    await books.settle("early", outcome="void", failure=failure)
    found = await books.admit("follower", "work", following="early")
    assert isinstance(found, Failed | Lead)


@BOTH
async def test_a_purge_changes_nothing_in_the_books(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    await books.admit("b", "open")
    before = await books.totals()
    await purge(clients, books, scope)
    assert await books.totals() == before
    await books.publish("b")
    assert [held for _, held in await books.totals()] == [0]


@BOTH
async def test_purging_again_purges_what_came_since(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    for hold in ("a", "b"):
        assert isinstance(await books.admit(hold, "work"), Lead)
        assert (await books.publish(hold)).published
        first = await purge(clients, books, scope)
        assert await purge(clients, books, scope) > first


@BOTH
async def test_a_leader_from_before_publishes_nothing_whatever_the_store_evicts(
    books: Books, clients: StoreClients, scope: Scope
) -> None:
    await books.admit("early", "work")
    await books.dispatch("early")
    await purge(clients, books, scope)
    for name in [name async for name in clients.ledger.scan_iter(f"fg:{{{books.tenant}}}:*")]:
        if await clients.ledger.pttl(name) > 0:
            await clients.ledger.delete(name)
    assert not (await books.publish("early")).published
    assert isinstance(await books.admit("next", "work"), Lead)


async def test_the_mark_of_one_purged_work_is_forgotten_in_time(books: Books, clients: StoreClients) -> None:
    await purge(clients, books, "work")
    assert "!purged|work" in await clients.ledger.hgetall(books.key("win"))
    await clients.ledger.zadd(books.key("gc"), {"p;work": 1}, xx=True)
    await books.admit("a")
    assert "!purged|work" not in await clients.ledger.hgetall(books.key("win"))


async def test_a_mark_of_an_earlier_version_still_counts(books: Books, clients: StoreClients) -> None:
    await books.admit("early", "work")
    mark = f"!;{await store_ms(clients) + 1};"
    await clients.ledger.set(keys.result_key(books.tenant, "work"), mark, px=60_000)
    assert isinstance(await books.admit("q", "work", mode="only_if_cached"), Absent)
    assert not (await books.publish("early")).published
