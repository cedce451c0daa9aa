"""Lost replies, a hung server, a killed one, a full one: the books stay exact and nobody waits long."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.domain.errors import StoreUnavailable
from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture
from app.generation.ports import Follow, Lead
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.verifying import read_snapshot
from app.results.redis import RedisResults
from app.store.client import UnsafeEviction, check_eviction, open_clients
from tests.faultproxy import FaultProxy
from tests.store.books import ONE, Books, until
from tests.storeserver import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.store.client import StoreClients


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that a test may stop, kill or fill."""
    with tempfile.TemporaryDirectory(prefix="fg") as folder, running_server(Path(folder)) as found:
        yield found


@pytest.mark.parametrize("cut", [True, False], ids=["connection lost", "reply lost"])
async def test_a_lost_reply_never_books_twice(
    server: ServerProcess, books: Books, tenant: str, cut: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        async with (
            FaultProxy(Path(folder) / "p.sock", server.socket) as proxy,
            open_clients(proxy.url) as clients,
        ):
            # Not entered, so that the proxy sees these commands alone; the fixture has loaded the scripts.
            books = Books(RedisLedger(clients.ledger), clients.ledger, tenant)
            proxy.cut = cut
            await books.totals()
            proxy.swallow = 1
            assert isinstance(await books.admit("a", "work"), Lead)
            proxy.swallow = 1
            assert await books.dispatch("a")
            proxy.swallow = 1
            settled = await books.settle("a")
            assert settled.repeated, "the first reply was the lost one"
            assert proxy.swallowed == 3
            assert await books.totals() == [(1120, 0)]
            [hold] = (await read_snapshot(clients.ledger, books.tenant)).holds
            assert hold.number > hold.began_ms * 1000


async def test_a_hung_server_is_reported_within_about_a_second(own_server: ServerProcess) -> None:
    async with (
        open_clients(own_server.url, ledger_connections=2) as clients,
        RedisLedger(clients.ledger) as ledger,
    ):
        books = Books(ledger, clients.ledger, "hung")
        await books.admit("a")
        own_server.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            calls = [books.admit(f"b{n}") for n in range(10)]
            failures = await asyncio.gather(*calls, return_exceptions=True)
            took_s = time.monotonic() - began
        finally:
            own_server.signal(signal.SIGCONT)
        assert {type(failure) for failure in failures} == {StoreUnavailable}
        assert [getattr(failure, "retry_after_s", None) for failure in failures] == [1] * 10
        assert took_s < 1.5
        assert isinstance(await books.admit("c"), Lead), "and it works again at once"


async def test_no_call_outlasts_its_deadline_whatever_the_connections_allow(
    own_server: ServerProcess,
) -> None:
    async with open_clients(own_server.url, ledger_timeout_s=60) as clients:
        books = Books(RedisLedger(clients.ledger, LedgerConfig(deadline_s=0.2)), clients.ledger, "hung")
        own_server.signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(StoreUnavailable):
                await books.admit("a")
        finally:
            own_server.signal(signal.SIGCONT)
        assert time.monotonic() - began < 10


async def test_waiting_outlives_a_store_that_is_away(own_server: ServerProcess) -> None:
    async with open_clients(own_server.url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "away")
        await books.admit("a", "work")
        await ledger.notifications.listening.wait()
        waiting = asyncio.create_task(ledger.wait("away", "work", "a", 30))
        own_server.kill()
        await until(lambda: _not(ledger.notifications.listening))
        assert not waiting.done()
        own_server.start()
        async with asyncio.timeout(10):
            await books.publish("a")
            await waiting


async def _not(event: asyncio.Event) -> bool:
    return not event.is_set()


async def test_a_killed_server_comes_back_with_every_acknowledged_step(own_server: ServerProcess) -> None:
    async with open_clients(own_server.url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "killed")
        await books.admit("a", "one")
        await books.admit("b", "two")
        await books.dispatch("b")
        await books.settle("a", ONE._replace(image_tokens=747))
        before = await books.dump()
        await books.client.execute_command("WAITAOF", 1, 0, 10_000)  # its disk may be busy just now
        own_server.kill()
        with pytest.raises(StoreUnavailable):
            await books.admit("c")
        own_server.start()
        assert await books.dump() == before
        assert isinstance(await books.admit("d", "two"), Follow)
        assert (await books.settle("b")).published is False
        assert await books.totals() == [(747 + 1120, 0)]


async def test_the_ledger_opens_while_its_store_is_down(own_server: ServerProcess) -> None:
    own_server.kill()
    async with open_clients(own_server.url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "down")
        with pytest.raises(StoreUnavailable):
            await books.admit("a")
        own_server.start()
        assert isinstance(await books.admit("a"), Lead), "although no script was loaded at the start"


async def test_a_server_that_forgot_the_scripts_is_told_again(books: Books) -> None:
    await books.client.script_flush()
    assert isinstance(await books.admit("a"), Lead)
    assert await books.dispatch("a")
    assert (await books.settle("a")).state == "settled"


async def test_a_full_store_admits_nothing_but_still_settles(own_server: ServerProcess) -> None:
    async with open_clients(own_server.url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "full")
        await books.admit("a")
        await clients.ledger.config_set("maxmemory-policy", "noeviction")
        await clients.ledger.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable):
            await books.admit("b")
        assert await books.dispatch("a")
        assert (await books.settle("a")).state == "settled"
        results = RedisResults(clients.blobs)
        data = b"picture"
        picture = Picture(f"img_{compute_digest(data)}", "image/png", 1, 1, data)
        assert not await results.put_pictures("full", (picture,), 60)
        await clients.ledger.config_set("maxmemory", "0")
        assert await books.totals() == [(1120, 0)]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_store_that_may_evict_the_books_is_refused(own_server: ServerProcess, policy: str) -> None:
    async with open_clients(own_server.url) as clients:
        assert await check_eviction(clients.ledger) == "volatile-lfu"
        await clients.ledger.config_set("maxmemory-policy", policy)
        with pytest.raises(UnsafeEviction, match=policy):
            await check_eviction(clients.ledger)


async def test_the_policy_is_seen_where_config_is_forbidden(own_server: ServerProcess) -> None:
    async with open_clients(own_server.url) as clients:
        await clients.ledger.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-config"])
        assert await check_eviction(clients.ledger) == "volatile-lfu"


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
async def test_pictures_fill_the_store_and_the_books_stay(own_server: ServerProcess, policy: str) -> None:
    async with open_clients(own_server.url) as clients, RedisLedger(clients.ledger) as ledger:
        books = Books(ledger, clients.ledger, "books")
        await books.admit("a")
        await books.settle("a")
        await books.admit("open")
        before = await books.dump()
        await clients.ledger.config_set("maxmemory-policy", policy)
        await clients.ledger.config_set("maxmemory", "16mb")
        results = RedisResults(clients.blobs)
        for number in range(60):
            data = number.to_bytes(2, "big") * 500_000
            picture = Picture(f"img_{compute_digest(data)}", "image/png", 1, 1, data)
            assert await results.put_pictures("books", (picture,), 600)
        assert (await clients.ledger.info("stats"))["evicted_keys"] > 20
        after = {name: value for name, value in (await books.dump()).items() if name in before}
        assert after == before


async def test_a_cancelled_call_leaves_no_reply_behind_for_the_next(
    clients: StoreClients, books: Books
) -> None:
    """redis-py once handed a cancelled command's reply to the next one; ours would be another's money."""
    await books.admit("a", "work")
    for number in range(200):
        call = asyncio.create_task(books.admit("b", "work"))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        key, value = f"fg:{{{books.tenant}}}:probe", str(number)
        assert await clients.ledger.set(key, value, px=5000) is True
        assert await clients.ledger.get(key) == value


async def test_a_small_pool_makes_callers_wait_instead_of_failing(server: ServerProcess, tenant: str) -> None:
    async with open_clients(server.url, ledger_connections=2) as clients:
        books = Books(RedisLedger(clients.ledger), clients.ledger, tenant)
        admitted = await asyncio.gather(*[books.admit(f"h{n}") for n in range(10)])
        assert {type(item) for item in admitted} == {Lead}
