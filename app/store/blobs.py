"""Transfers large values to and from the store without needless copies.

redis-py takes a value as one object and hands it to asyncio at once, which holds three copies before the last
byte has been sent: 60 MB for a 20 MB image. Reading one costs four copies and 70 ms of CPU. Here a value is
sent in slices, framed as one SET, and received into a single buffer. The connections are redis-py's own, with
its addresses, TLS, authentication and pools.

A cluster's client has no such pool, and follows redirects, so there the library's own commands are used.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection

    from app.domain.generation import ImageData

T = TypeVar("T")

SLICE_BYTES = 256 * 1024
HEAD_BYTES = 4096


async def put(client: Redis | RedisCluster, key: str, pieces: tuple[ImageData, ...], ttl_ms: int) -> None:
    """Set a value that consists of pieces, with a time to live in milliseconds.

    Raises:
        RedisError: The server refused the command, or does not answer.
    """
    if isinstance(client, RedisCluster):
        await client.set(key, b"".join(pieces), px=ttl_ms)
        return
    command = _build_set_command(key, pieces, ttl_ms)

    async def exchange(connection: AbstractConnection) -> None:
        for chunk in _slice_pieces(command):
            # The connection takes memoryviews, whatever its signature says.
            await connection.send_packed_command([chunk], check_health=False)  # type: ignore[list-item]
        await connection.read_response()

    await _run_exchange(client, exchange)


async def get(client: Redis | RedisCluster, key: str) -> memoryview | None:
    """The value in its own buffer, or None if the key does not exist.

    Raises:
        RedisError: The server refused the command, or does not answer.
    """
    if isinstance(client, RedisCluster):
        value: Any = await client.get(key)
        if value is None:
            return None
        return memoryview(value)
    name = key.encode()
    command = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(name), name)

    async def exchange(connection: AbstractConnection) -> memoryview | None:
        # The transport has no public accessor; if the attribute is renamed, every test of images fails.
        transport: Any = connection._writer.transport  # type: ignore[union-attr]  # noqa: SLF001
        stream = transport.get_protocol()
        reply = _BulkReply(asyncio.get_running_loop().create_future())
        transport.set_protocol(reply)
        try:
            transport.write(command)
            value = await reply.received
            if reply.overrun:
                raise RedisConnectionError("The server sent more than one reply.")
            return value
        finally:
            transport.set_protocol(stream)

    return await _run_exchange(client, exchange)


async def _run_exchange(client: Redis, exchange: Callable[[AbstractConnection], Awaitable[T]]) -> T:
    """Make one exchange on a pooled connection; repeat it once if the connection turns out to be dead."""
    pool = client.connection_pool
    for last in (False, True):
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            return await exchange(connection)
        except (RedisConnectionError, RuntimeError):
            # uvloop raises RuntimeError if the connection was closed before the write.
            await connection.disconnect(nowait=True)
            if last:
                raise
        except ResponseError:
            # The reply was read completely, so the connection can be reused.
            raise
        except BaseException:
            # Cancelled or timed out half-way: the late reply must never be read as that of another request.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
    raise AssertionError("unreachable")


def _build_set_command(key: str, pieces: tuple[ImageData, ...], ttl_ms: int) -> list[ImageData]:
    """``SET key <pieces> PX ttl_ms`` in RESP; the pieces are not copied."""
    length = sum(map(len, pieces))
    name, ttl = key.encode(), str(ttl_ms).encode()
    head = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, length)
    tail = b"\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(ttl), ttl)
    return [head, *pieces, tail]


def _slice_pieces(pieces: list[ImageData]) -> Iterator[ImageData]:
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(piece), SLICE_BYTES):
            yield view[begin : begin + SLICE_BYTES]


class _BulkReply(asyncio.BufferedProtocol):
    """Receives one bulk reply: its first line into a small buffer, the value directly into its own.

    Args:
        received: Resolved with the value, with None for a null reply, or with the error.
    """

    def __init__(self, received: asyncio.Future[memoryview | None]) -> None:
        self.received = received
        self._buffer = memoryview(bytearray(HEAD_BYTES))
        self._spare = memoryview(bytearray(HEAD_BYTES))
        self._filled = 0
        self._value_bytes: int | None = None
        self.overrun = False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the transport's hint is not needed
        """The buffer for the next bytes; never empty, because uvloop asks once more after the end."""
        return self._buffer[self._filled :] or self._spare

    def buffer_updated(self, nbytes: int) -> None:
        """Process the received bytes."""
        self._filled += nbytes
        if self.received.done():
            self.overrun = nbytes > 0
            return
        if self._value_bytes is None:
            self._read_head()
        if self._value_bytes is not None and self._filled >= self._value_bytes + 2:
            self._finish(self._buffer[: self._value_bytes])

    def eof_received(self) -> None:
        """Fail, because the server closed the connection."""
        self._fail(RedisConnectionError("The server closed the connection."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail, because the connection broke."""
        self._fail(RedisConnectionError(f"The connection was lost: {exc}"))

    def pause_writing(self) -> None:
        """Do nothing, because a request is only a few bytes."""

    def resume_writing(self) -> None:
        """Do nothing, because nothing was paused."""

    def _read_head(self) -> None:
        line, end_of_line, rest = bytes(self._buffer[: self._filled]).partition(b"\r\n")
        if not end_of_line:
            if self._filled == HEAD_BYTES:
                self._fail(RedisConnectionError("The server does not speak RESP."))
            return
        if line == b"$-1":
            self._finish(None)
        elif line[:1] == b"$" and line[1:].isdigit():
            self._value_bytes = int(line[1:])
            whole = bytearray(self._value_bytes + 2)
            self.overrun = len(rest) > len(whole)
            whole[: len(rest)] = rest
            self._buffer = memoryview(whole)
            self._filled = len(rest)
        elif line[:1] == b"-":
            self._fail(ResponseError(line[1:].decode(errors="replace")))
        else:
            self._fail(RedisConnectionError("The server sent an unexpected kind of reply."))

    def _finish(self, value: memoryview | None) -> None:
        if not self.received.done():
            self.received.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self.received.done():
            self.received.set_exception(error)
