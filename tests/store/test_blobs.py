"""Large values on the wire: cut anywhere, refused, hung up on, over asyncio's and uvloop's transports."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from app.store import blobs
from app.store.client import open_clients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from app.store.client import StoreClients
    from tests.storeserver import ServerProcess

VALUE = b"a value with \r\n and $5\r\n inside"
REPLY = b"$%d\r\n%b\r\n" % (len(VALUE), VALUE)


async def fetched(client: Redis, key: str) -> bytes | None:
    found = await blobs.get(client, key)
    return None if found is None else bytes(found)


@asynccontextmanager
async def scripted(*connections: Sequence[bytes]) -> AsyncIterator[StoreClients]:
    """A server that answers each connection's one request with these pieces, then hangs up."""
    left = list(connections)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = left.pop(0)
        await reader.readuntil(b"GET")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    with tempfile.TemporaryDirectory(prefix="fg") as folder:
        path = str(Path(folder) / "s.sock")
        server = await asyncio.start_unix_server(serve, path)
        async with server, open_clients(f"unix://{path}") as clients:
            yield clients


async def test_a_reply_may_be_cut_anywhere() -> None:
    for cut in range(1, len(REPLY)):
        async with scripted((REPLY[:cut], REPLY[cut:])) as clients:
            assert await fetched(clients.blobs, "key") == VALUE
    async with scripted([bytes([byte]) for byte in REPLY]) as clients:
        assert await fetched(clients.blobs, "key") == VALUE


async def test_a_connection_that_dies_half_way_is_tried_once_more() -> None:
    async with scripted((REPLY[:-5],), (REPLY,)) as clients:
        assert await fetched(clients.blobs, "key") == VALUE
    async with scripted((REPLY[:-5],), (REPLY[:3],)) as clients:
        with pytest.raises(RedisConnectionError):
            await blobs.get(clients.blobs, "key")


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"x" * 5000,
        REPLY + b"+more\r\n",
    ],
)
async def test_anything_but_one_value_is_no_value(reply: bytes) -> None:
    async with scripted((reply,), (reply,)) as clients:
        with pytest.raises(RedisConnectionError):
            await blobs.get(clients.blobs, "key")


async def test_a_refusal_is_told_and_the_connection_still_works(clients: StoreClients, tenant: str) -> None:
    await clients.blobs.rpush(f"{tenant}:list", "x")
    await clients.blobs.expire(f"{tenant}:list", 60)
    for _ in range(3):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await blobs.get(clients.blobs, f"{tenant}:list")
    await blobs.put(clients.blobs, f"{tenant}:b", (b"1", b"", b"23"), 60_000)
    assert await fetched(clients.blobs, f"{tenant}:b") == b"123"
    assert await fetched(clients.blobs, f"{tenant}:none") is None
    assert await clients.blobs.get(f"{tenant}:b") == b"123"
    connections = await clients.ledger.client_list()
    assert len(connections) <= 6, "they share a few connections"


async def test_a_caller_who_gives_up_leaves_nothing_for_the_next(clients: StoreClients, tenant: str) -> None:
    await blobs.put(clients.blobs, f"{tenant}:large", (b"x" * 3_000_000,), 60_000)
    await blobs.put(clients.blobs, f"{tenant}:small", (b"small",), 60_000)
    for turns in range(60):
        call = asyncio.create_task(blobs.get(clients.blobs, f"{tenant}:large"))
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await fetched(clients.blobs, f"{tenant}:small") == b"small"


def test_uvloops_transports_carry_it_too(server: ServerProcess, tenant: str) -> None:
    """In production uvicorn runs on uvloop, whose transports are other code."""
    faults: list[object] = []

    async def round_trip() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with open_clients(server.url) as clients:
            for length in (0, 1, 4000, 4096, 70_000, 5_000_000):
                value = b"v" * length
                await blobs.put(clients.blobs, f"{tenant}:u", (b"head", value), 60_000)
                assert await fetched(clients.blobs, f"{tenant}:u") == b"head" + value
                assert await fetched(clients.blobs, f"{tenant}:none") is None
            assert await clients.blobs.strlen(f"{tenant}:u") == 5_000_004

    uvloop.run(round_trip())
    assert faults == []
