"""Stores of several servers: their addresses, and a primary that dies under its sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from app.domain.budget import Budget
from app.domain.errors import StoreUnavailable
from app.generation.ports import Lead
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.results.redis import RedisResults
from app.store.client import open_clients
from app.store.embedded import find_server_binary
from app.store.topologies import parse
from tests.processes import free_port
from tests.store.books import Books, picture_of, until
from tests.store.test_durable import quick, replica

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["quick"]


def test_the_parts_of_an_address() -> None:
    sentinel = parse("rediss+sentinel://me:p%40ss@one:26379,[::1]:26380/books")
    assert sentinel is not None
    assert sentinel.hosts == (("one", 26379), ("::1", 26380))
    assert (sentinel.name, sentinel.tls) == ("books", True)
    assert sentinel.credentials == {"username": "me", "password": "p@ss"}
    cluster = parse("redis+cluster://:secret@node:6379")
    assert cluster is not None
    assert (cluster.name, cluster.tls, cluster.credentials) == ("", False, {"password": "secret"})
    assert parse("redis://one:6379") is None


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379",
        "redis+sentinel:///books",
        "redis+cluster://one:6379/books",
        "redis+cluster://one",
        "redis+cluster://one:port",
        "redis+sentinel://me:hidden@one/books",
        "http+cluster://one:6379",
    ],
)
def test_an_address_that_is_not_written_so_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="host:port") as refused:
        parse(url)
    assert "hidden" not in str(refused.value)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[int, dict[int, subprocess.Popen[bytes]]]]:
    """A sentinel's port, and a primary and its replica by their ports."""
    primary, replica, sentinel = free_port(), free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor books 127.0.0.1 {primary} 1\n"
        "sentinel down-after-milliseconds books 1500\nsentinel failover-timeout books 1000\n"
        f"logfile {tmp_path}/sentinel.log\n"
    )
    common = ("--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path), "--repl-diskless-sync-delay", "0")
    commands = {
        primary: ("--port", str(primary), *common),
        replica: ("--port", str(replica), "--replicaof", f"127.0.0.1 {primary}", *common),
        sentinel: (str(config), "--sentinel"),
    }
    with contextlib.ExitStack() as stack:
        servers = {}
        for port, arguments in commands.items():
            server = subprocess.Popen([str(find_server_binary()), *arguments], stdout=subprocess.DEVNULL)
            stack.callback(server.wait)
            stack.callback(server.kill)
            servers[port] = server
        yield sentinel, servers


@pytest.mark.timeout(90)
async def test_when_the_primary_dies_the_books_go_on_at_its_replica(
    guarded: tuple[int, dict[int, subprocess.Popen[bytes]]],
) -> None:
    sentinel, servers = guarded
    primary = next(iter(servers))
    url = f"redis+sentinel://127.0.0.1:{sentinel}/books"
    async with open_clients(url) as clients, RedisLedger(clients.ledger, LedgerConfig()) as ledger:
        books = Books(ledger, clients.ledger, "acme")

        async def leads(hold: str) -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await books.admit(hold), Lead)
            return False

        replica = list(servers)[1]

        async def replicated() -> bool:
            async with Redis(port=primary) as first, Redis(port=replica) as second:
                held = await first.hgetall(books.key("res"))
                return bool(held) and held == await second.hgetall(books.key("res"))

        await until(lambda: leads("a"), 20)
        assert (await books.settle("a")).state == "settled"
        await until(replicated, 20)

        async def watched() -> bool:
            asked: Any
            async with Redis(port=sentinel, socket_timeout=5, decode_responses=True) as asked:
                return len(await asked.execute_command("SENTINEL", "REPLICAS", "books")) == 1

        await until(watched, 30)
        servers[primary].kill()
        await asyncio.to_thread(servers[primary].wait)
        await until(lambda: leads("b"), 40)
        assert await books.totals() == [(1120, 1120)]
        picture = picture_of(b"pixels" * 100_000)
        assert await RedisResults(clients.blobs).put_pictures("acme", (picture,), 60)
        assert await RedisResults(clients.blobs).get_picture("acme", picture.id) == picture


@pytest.mark.timeout(90)
async def test_a_failover_to_a_replica_that_lags_loses_nothing_that_a_gateway_remembers(
    guarded: tuple[int, dict[int, subprocess.Popen[bytes]]],
) -> None:
    """The promoted replica has never heard of 20 of 30 pictures; there is no journal on any disk."""
    sentinel, servers = guarded
    primary, lagging = list(servers)[:2]
    async with replica(f"redis+sentinel://127.0.0.1:{sentinel}/books", None) as gateway:
        books = replace(gateway.books, budgets=(Budget("images", "day", 1000),))
        made = 0

        async def draw() -> bool:
            """The upstream's own count is what was sent to it."""
            nonlocal made
            with contextlib.suppress(StoreUnavailable):
                hold = f"h{made}"
                if not isinstance(await books.admit(hold), Lead):
                    return False
                await books.dispatch(hold)
                made += 1
                return (await books.settle(hold)).state == "settled"
            return False

        await until(draw, 20)
        while made < 10:
            assert await draw()

        async def watched() -> bool:
            asked: Any
            async with (
                Redis(port=sentinel, socket_timeout=5, decode_responses=True) as asked,
                Redis(port=primary) as first,
                Redis(port=lagging) as second,
            ):
                equal = await first.hlen(books.key("res")) == await second.hlen(books.key("res"))
                return equal and len(await asked.execute_command("SENTINEL", "REPLICAS", "books")) == 1

        await until(watched, 30)
        await gateway.has_looked()
        client: Any
        async with Redis(port=primary) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
            await client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        while made < 30:
            assert await draw()
        servers[primary].kill()
        await asyncio.to_thread(servers[primary].wait)

        async def whole() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return await books.totals() == [(made, 0)]
            return False

        await until(whole, 60)

        async def told() -> bool:
            return "yes" in gateway.told.histories

        await until(told, 30)
        assert sum(amounts.images for amounts in gateway.told.missing) == 20
