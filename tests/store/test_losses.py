"""What each kind of store loses of the bookings that it has acknowledged, against the upstream's own count.

These are the rows of the table in deploy/RUNBOOK.md. In all of them the gateway has no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.asyncio import Redis
from redis.crc import key_slot

from app.domain.budget import Budget
from app.domain.errors import StoreUnavailable
from app.generation.ports import Lead
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.store.client import open_clients
from app.store.embedded import EmbeddedStore, find_server_binary
from tests.store.books import Books, until
from tests.store.test_cluster import SLOTS, free_ports
from tests.store.test_durable import Replica, quick, replica
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["quick"]

IMAGES = (Budget("images", "day", 1000),)


@dataclass
class Upstream:
    """Draws a picture for each hold that is sent.

    Attributes:
        made: Its own count of pictures.
    """

    books: Books
    made: int = 0

    async def draw(self) -> bool:
        """Whether a picture was made and its settlement acknowledged."""
        with contextlib.suppress(StoreUnavailable):
            hold = f"h{self.made}"
            if isinstance(await self.books.admit(hold), Lead):
                assert await self.books.dispatch(hold)
                self.made += 1
                return (await self.books.settle(hold)).state == "settled"
        return False

    async def draw_until(self, made: int) -> None:
        """So many pictures in all."""
        await until(self.draw, 20)
        while self.made < made:
            assert await self.draw()

    async def is_booked(self) -> bool:
        """Whether all of them are."""
        with contextlib.suppress(StoreUnavailable):
            return await self.books.totals() == [(self.made, 0)]
        return False


def upstream_of(gateway: Replica) -> Upstream:
    return Upstream(replace(gateway.books, budgets=IMAGES))


async def has_told_of(gateway: Replica, images: int) -> bool:
    """Whether it has reported another history, and that so many pictures were missing in all."""
    missing = sum(amounts.images for amounts in gateway.told.missing)
    return bool(gateway.told.histories) and missing == images


async def count_booked(url: str) -> int:
    """What the store knows by itself, once it answers."""
    async with open_clients(url) as clients, RedisLedger(clients.ledger, LedgerConfig()) as ledger:
        books = Books(ledger, clients.ledger, "acme", IMAGES)

        async def booked() -> list[tuple[int, int]]:
            with contextlib.suppress(StoreUnavailable):
                return await books.totals()
            return []

        ((settled, _held),) = await until(booked, 20)
        return settled


async def test_an_embedded_store_whose_process_is_killed_loses_nothing(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path) as url:
        async with open_clients(url) as clients, RedisLedger(clients.ledger, LedgerConfig()) as ledger:
            upstream = Upstream(Books(ledger, clients.ledger, "acme", IMAGES))
            await upstream.draw_until(30)
            os.kill((await clients.ledger.info("server"))["process_id"], signal.SIGKILL)
        assert await count_booked(url) == 30


@pytest.mark.parametrize("fsync", ["everysec", "always"])
async def test_a_machine_that_fails_loses_what_was_not_on_its_disk(tmp_path: Path, fsync: str) -> None:
    """The kernel's cache goes with the machine: what the server had not synced is cut off its log."""
    with running_server(tmp_path / "s", "--appendfsync", fsync) as server:
        async with replica(server.url, None) as gateway:
            upstream = upstream_of(gateway)
            await upstream.draw_until(20)
            await gateway.has_looked()
            client: Any
            async with Redis.from_url(server.url) as client:
                began_s = time.monotonic()
                assert await client.execute_command("WAITAOF", 1, 0, 10_000) == [1, 0]
                assert time.monotonic() - began_s < 2.5, "the last second, two where the disk is busy"
            log = next((server.folder / "appendonlydir").glob("*.incr.aof"))
            synced = log.stat().st_size
            await upstream.draw_until(30)
            if fsync == "always":
                synced = log.stat().st_size  # each answer came after its sync
            server.kill()
            os.truncate(log, synced)
            server.start()
            lost = 0 if fsync == "always" else 10
            await until(upstream.is_booked, 20)
            await until(lambda: has_told_of(gateway, lost), 10)
            server.kill()
            os.truncate(log, synced)
            server.start()
        assert await count_booked(server.url) == 30 - lost, "nobody is left who remembers"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[list[int], dict[int, subprocess.Popen[bytes]]]]:
    """The ports of three primaries and a replica of the third, and their processes."""
    ports = free_ports(4)
    with contextlib.ExitStack() as stack:
        servers: dict[int, subprocess.Popen[bytes]] = {}
        nodes: list[Any] = []
        for port in ports:
            home = tmp_path / str(port)
            home.mkdir()
            servers[port] = subprocess.Popen(
                [
                    *(str(find_server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                    *("--cluster-enabled", "yes", "--dir", str(home), "--cluster-node-timeout", "1500"),
                    *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
                ],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(servers[port].wait)
            stack.callback(servers[port].kill)
            nodes.append(stack.enter_context(contextlib.closing(redis.Redis(port=port, socket_timeout=5))))
        _join(nodes, ports)
        yield ports, servers


def _join(nodes: list[Any], ports: list[int]) -> None:
    for node in nodes:
        _wait_for(node.ping)
    *primaries, follower = nodes
    share = SLOTS // len(primaries) + 1
    for index, node in enumerate(primaries):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, min(SLOTS, (index + 1) * share) - 1)
    for index, node in enumerate(nodes):
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
    name = primaries[2].execute_command("CLUSTER", "MYID")
    _wait_for(lambda: follower.execute_command("CLUSTER", "REPLICATE", name))
    for node in nodes:
        _wait_for(lambda node=node: _is_settled(node, len(nodes)))
    _wait_for(lambda: follower.info("replication")["master_link_status"] == "up")


def _is_settled(node: Any, count: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(count))


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


@pytest.mark.timeout(120)
async def test_a_clusters_failover_to_a_replica_that_lags_loses_nothing_that_a_gateway_remembers(
    guarded: tuple[list[int], dict[int, subprocess.Popen[bytes]]],
) -> None:
    """The promoted replica has never heard of 20 of 30 pictures."""
    ports, servers = guarded
    url = f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
    async with replica(url, None) as gateway:
        upstream = upstream_of(gateway)
        assert key_slot(gateway.books.key("win").encode()) > SLOTS * 2 // 3 + 1, "it is the third primary's"
        await upstream.draw_until(10)
        primary: Any
        async with Redis(port=ports[2]) as primary, Redis(port=ports[3]) as lagging:

            async def replicated() -> bool:
                offsets = [await each.info("replication") for each in (primary, lagging)]
                return bool(offsets[0]["master_repl_offset"] == offsets[1]["slave_repl_offset"])

            await until(replicated, 20)
            await gateway.has_looked()
            await primary.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
            await primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await upstream.draw_until(30)
        servers[ports[2]].kill()
        await asyncio.to_thread(servers[ports[2]].wait)
        await until(upstream.is_booked, 60)
        await until(lambda: has_told_of(gateway, 20), 10)
