"""Streams of a picture on its way: patience first, then signs of life, then what the dialect makes of it."""

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
"""How often the connection tells that it lives; idle ones are cut by proxies after a minute or so."""


@dataclass(frozen=True)
class StreamDialect(Generic[T]):
    """How a dialect writes a stream.

    Attributes:
        media_type: Of the whole stream.
        beat: A sign of life, which means nothing to the clients of this dialect.
        pieces_of: The text of a result, made as it is sent.
        piece_of_error: The text of a failure after the status line.
        headers_of: Headers of a result that is there when the stream begins.
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
    """A stream of what a generation comes to.

    Args:
        generating: The generation; it goes on where the caller leaves, because it is the gateway's own.
        dialect: How it is written.
        patience_s: Seconds that the status line waits: what fails within it is answered with its own status.
        beat_s: Seconds between two signs of life after that.

    Raises:
        GatewayError: Every failure within the patience. A later one is a piece of the stream.
    """
    task = asyncio.ensure_future(generating)
    task.add_done_callback(_retrieve_exception)
    try:
        await asyncio.wait({task}, timeout=patience_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    headers = dialect.headers_of(task.result()) if task.done() else {}

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while not task.done():
                yield dialect.beat
                await asyncio.wait({task}, timeout=beat_s)
            try:
                pieces_left = iter(dialect.pieces_of(task.result()))
                first = next(pieces_left, b"")
            except ClientDisconnect:
                return  # nobody reads on
            except Exception as error:  # noqa: BLE001 - logged where it is none of the gateway's own
                yield dialect.piece_of_error(_convert_error(error))
                return
            yield first
            for piece in pieces_left:
                yield piece
        finally:
            task.cancel()

    # Proxies that gather answers before they pass them on are told to leave this one alone.
    unbuffered = {"Cache-Control": "private", "X-Accel-Buffering": "no"}
    return StreamingResponse(pieces(), headers={**unbuffered, **headers}, media_type=dialect.media_type)


def _convert_error(raised: Exception) -> GatewayError:
    """The status line has been sent, so a fault of the gateway is told as every other failure is."""
    if isinstance(raised, GatewayError):
        return raised
    log.error("a stream failed by a fault of the gateway", exc_info=raised)
    return InternalError()


def _retrieve_exception(task: asyncio.Task[T]) -> None:
    """A caller may be gone before anybody asks how it ended, and asyncio complains about that."""
    if not task.cancelled():
        task.exception()
