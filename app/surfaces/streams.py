"""Streams of a picture on its way: patience first, then signs of life, then what the dialect makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from starlette.responses import StreamingResponse

from app.domain.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping

    from starlette.responses import Response

T = TypeVar("T")

BEAT_S: Final = 15.0
"""How often the connection tells that it lives; idle ones are cut by proxies after a minute or so."""


@dataclass(frozen=True)
class Dialect(Generic[T]):
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
    dialect: Dialect[T],
    *,
    patience_s: float,
    beat_s: float = BEAT_S,
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
    task.add_done_callback(_heard)
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
            for piece in dialect.pieces_of(task.result()):
                yield piece
        except GatewayError as error:
            yield dialect.piece_of_error(error)
        finally:
            task.cancel()

    # Proxies that gather answers before they pass them on are told to leave this one alone.
    unbuffered = {"Cache-Control": "private", "X-Accel-Buffering": "no"}
    return StreamingResponse(pieces(), headers={**unbuffered, **headers}, media_type=dialect.media_type)


def _heard(task: asyncio.Task[T]) -> None:
    """A caller may be gone before anybody asks how it ended, and asyncio complains about that."""
    if not task.cancelled():
        task.exception()
