"""The scripts on a cluster of three, whose nodes refuse every key that lies elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.asyncio.cluster import RedisCluster

from app.domain.operation import OperationResult
from app.generation.ports import Claim, Hit, Lead, Replayed
from app.ledger.operations import RedisOperations
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.restoring import Restorer
from app.ledger.verifying import list_ledger_tenants, read_snapshot
from app.results.redis import RedisResults
from app.store import keys
from app.store.client import check_eviction, fetch_memory, open_clients
from app.store.embedded import find_server_binary
from tests.store.books import Books, picture_of
from tests.store.test_finished import KEPT as FINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.domain.generation import Picture
    from app.domain.stored_generation import StoredGeneration

SLOTS = 16384


def free_ports(count: int) -> list[int]:
    """Ports that are free now and whose cluster bus ports (10000 above) exist."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port <= 55_000 and port not in found:
            found.append(port)
        elif port > 55_000:
            found.append(20_000 + port % 10_000)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """One node's port."""
    ports = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="fg") as folder, contextlib.ExitStack() as stack:
        for port in ports:
            home = Path(folder) / str(port)
            home.mkdir()
            process = subprocess.Popen(
                [
                    *(str(find_server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                    *("--cluster-enabled", "yes", "--dir", str(home)),
                ],
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        nodes: list[Any] = []
        for port in ports:
            node = redis.Redis(port=port, socket_timeout=5)
            stack.callback(node.close)
            nodes.append(node)
        join(nodes, ports)
        yield ports[0]


def join(nodes: list[Any], ports: list[int]) -> None:
    deadline = time.monotonic() + 20
    for node in nodes:
        while True:
            with contextlib.suppress(redis.ConnectionError):
                node.ping()
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
    share = SLOTS // len(nodes) + 1
    for index, node in enumerate(nodes):
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, min(SLOTS, (index + 1) * share) - 1)
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        if index:
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
    for node in nodes:
        while not settled(node):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def settled(node: Any) -> bool:
    """Whether the node sees all slots served by all nodes."""
    info = node.execute_command("CLUSTER INFO")
    return bool(info.get("cluster_state") == "ok" and info.get("cluster_known_nodes") == "3")


OPERATION = "op_" + "0" * 24
GENERATION = FINISHED.generation.id


def talking_of(picture: Picture) -> StoredGeneration:
    """A kept generation whose conversation has this picture."""
    assert FINISHED.conversation is not None
    return replace(FINISHED, conversation=replace(FINISHED.conversation, places=(("p", picture.id),)))


async def test_a_gateways_store_can_be_a_cluster(cluster: int) -> None:
    """Through its address: admission, pictures, waking, rebuilding and verifying."""
    async with open_clients(f"redis+cluster://127.0.0.1:{cluster}", ledger_timeout_s=5) as clients:
        assert await check_eviction(clients.ledger) == "noeviction"
        async with RedisLedger(clients.ledger, LedgerConfig(deadline_s=10)) as ledger:
            results = RedisResults(clients.blobs)
            picture = picture_of(b"pixels" * 300_000)
            restorer = Restorer(clients.ledger, ledger.scripts, LedgerConfig(keep_s=60))
            assert len(set((await restorer.read_history()).split(","))) == 6, "each primary has its own"
            assert len(await fetch_memory(clients.blobs)) == 3
            await ledger.notifications.listening.wait()
            for tenant in ("one", "two", "three", "four"):
                books = Books(ledger, clients.ledger, tenant)
                assert isinstance(await books.admit("a", "work"), Lead)
                waiting = asyncio.create_task(ledger.wait(tenant, "work", "a", 30))
                assert await books.dispatch("a")
                assert (await books.publish("a")).published
                async with asyncio.timeout(10):
                    await waiting
                keyed = replace(books.request("k", "work"), claim=Claim("d" * 64, "first", 60))
                assert isinstance(await ledger.admit(keyed), Hit)
                keyed = replace(keyed, hold_id="r", claim=Claim("d" * 64, "second", 60))
                assert isinstance(await ledger.admit(keyed), Replayed)
                assert await results.put_pictures(tenant, (picture,), 60)
                assert await results.get_picture(tenant, picture.id) == picture
                assert await results.put_generation(tenant, talking_of(picture), 60)
                assert await results.get_generation(tenant, GENERATION) == talking_of(picture)
                operations = RedisOperations(clients.ledger, lease_s=60, deadline_s=10)
                assert (await operations.begin(tenant, OPERATION, "me", "work"))[1]
                assert await operations.finish(
                    tenant, OPERATION, "me", "done", "{}", OperationResult(GENERATION, None)
                )
                ended = await operations.read(tenant, OPERATION)
                assert ended is not None
                assert ended.state == "done"
                found = await read_snapshot(clients.ledger, tenant)
                assert found.find_differences() == []
                lost = list(found.holds)
                await clients.ledger.delete(*[books.key(name) for name in keys.LEDGER_NAMES])
                assert (await restorer.rebuild(tenant, lost, "anew", 0)).count == 1
                assert await books.totals() == [(1120, 0)]
            tenants = ["one", "two", "three", "four"]
            assert await restorer.look_at(tenants) == dict.fromkeys(tenants, ("anew", False))
            assert set(tenants) <= set(await list_ledger_tenants(clients.ledger))
            assert ledger.notifications.woken > 0


async def test_a_whole_request_runs_on_a_cluster(cluster: int) -> None:
    client: Any = RedisCluster("127.0.0.1", cluster, decode_responses=True)
    async with client:
        slots = set()
        for tenant in ("acme", "search", "team-c", "another"):
            books = Books(RedisLedger(client), client, tenant)
            assert isinstance(await books.admit("a", "work"), Lead)
            assert await books.dispatch("a")
            assert (await books.publish("a")).published
            assert isinstance(await books.admit("b", "work"), Hit)
            assert await books.totals() == [(1120, 0)]
            slots.add(client.keyslot(books.key("res")) * 3 // SLOTS)
        assert len(slots) > 1, "the tenants should lie on several nodes"
