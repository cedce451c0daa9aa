"""Writing a large value without joining its pieces.

redis-py takes a value as one object and hands it to asyncio at once, which holds three copies of it before
the last byte has left: 60 MB for a 20 MB picture. Here the pieces go out in slices, framed as one SET, so
that a slice is all that is ever copied, and other callers get their turn between two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis


SLICE_BYTES = 256 * 1024


def framed(key: str, pieces: tuple[bytes, ...], ttl_ms: int) -> list[bytes]:
    """``SET key <pieces> PX ttl_ms`` on the wire (RESP): the pieces themselves, with frames between them."""
    length = sum(map(len, pieces))
    name, ttl = key.encode(), str(ttl_ms).encode()
    head = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, length)
    tail = b"\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(ttl), ttl)
    return [head, *pieces, tail]


async def put(client: Redis, key: str, pieces: tuple[bytes, ...], ttl_ms: int) -> None:
    """Set a value that consists of pieces, with a time to live in milliseconds.

    Repeats once where the connection turns out to be dead, as the client does for its own commands.

    Raises:
        RedisError: The server refused, or does not answer.
    """
    pool = client.connection_pool
    command = framed(key, pieces, ttl_ms)
    for last in (False, True):
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            for chunk in _slices(command):
                await connection.send_packed_command([chunk], check_health=False)
            await connection.read_response()
        except RedisConnectionError:
            await connection.disconnect()
            if last:
                raise
        except BaseException:
            # Cancelled or timed out half-way: nobody may read this connection's late reply.
            await connection.disconnect(nowait=True)
            raise
        else:
            return
        finally:
            await pool.release(connection)


def _slices(pieces: list[bytes]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(piece), SLICE_BYTES):
            yield view[begin : begin + SLICE_BYTES]
