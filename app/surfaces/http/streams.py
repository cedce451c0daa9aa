"""Streams that send heartbeats until a picture is ready, then the result in the dialect's format."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from app.domain.errors import GatewayError, InternalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping

    from starlette.responses import Response

log = logging.getLogger(__name__)

T = TypeVar("T")

HEARTBEAT_S: Final = 15.0
"""Seconds between heartbeats; proxies close connections that are idle for about a minute."""


@dataclass(frozen=True)
class StreamDialect(Generic[T]):
    """How a dialect writes a stream.

    Attributes:
        media_type: Media type of the stream.
        beat: A heartbeat, which clients of this dialect ignore.
        pieces_of: Encodes a result, piece by piece while it is sent.
        piece_of_error: Encodes a failure that comes after the status line.
        headers_of: Builds the headers for a result that is ready when the stream begins.
    """

    media_type: str
    beat: bytes
    pieces_of: Callable[[T], Iterable[bytes]]
    piece_of_error: Callable[[GatewayError], bytes]
    headers_of: Callable[[T], Mapping[str, str]]


async def stream(
    generating: Coroutine[None, None, T],
    dialect: StreamDialect[T],
    *,
    patience_s: float,
    beat_s: float = HEARTBEAT_S,
) -> Response:
    """Stream the result of a generation.

    Args:
        generating: The generation; if the caller leaves, the gateway continues it.
        dialect: Encodes the stream.
        patience_s: Seconds before the status line is sent: a failure within them has its own status.
        beat_s: Seconds between two heartbeats after that.

    Raises:
        GatewayError: A failure within ``patience_s``. A later one is encoded in the stream.
    """
    task = asyncio.ensure_future(generating)
    task.add_done_callback(_retrieve_exception)
    try:
        await asyncio.wait({task}, timeout=patience_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    headers: Mapping[str, str] = {}
    if task.done():
        headers = dialect.headers_of(task.result())

    async def iterate_pieces() -> AsyncIterator[bytes]:
        try:
            while not task.done():
                yield dialect.beat
                await asyncio.wait({task}, timeout=beat_s)
            try:
                pieces_left = iter(dialect.pieces_of(task.result()))
                first = next(pieces_left, b"")
            except ClientDisconnect:
                return  # the caller has left
            except Exception as error:  # noqa: BLE001 - logged where it is none of the gateway's own
                yield dialect.piece_of_error(_convert_error(error))
                return
            yield first
            for piece in pieces_left:
                yield piece
        finally:
            task.cancel()

    # Tells proxies not to buffer the response.
    unbuffered = {"Cache-Control": "private", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        iterate_pieces(), headers={**unbuffered, **headers}, media_type=dialect.media_type
    )


def _convert_error(raised: Exception) -> GatewayError:
    """Convert an unexpected exception, because the status line has already been sent."""
    if isinstance(raised, GatewayError):
        return raised
    log.error("a stream failed with an unexpected error", exc_info=raised)
    return InternalError()


def _retrieve_exception(task: asyncio.Task[T]) -> None:
    """Retrieve the exception of a task whose caller left: asyncio warns about exceptions never retrieved."""
    if not task.cancelled():
        task.exception()
