"""Server-sent events of a picture on its way: patience first, then signs of life, then the pictures."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

from app.domain.errors import GatewayError
from app.media.splicing import splice_iter
from app.surfaces.openai.errors import openai_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping

    from starlette.responses import Response

    from app.order import GenerationResult
    from app.surfaces.openai.answered import Spliced

PATIENCE_S: Final = 5.0
"""How long the status line waits: what fails within it is answered with its own status."""
BEAT_S: Final = 15.0
"""How often a comment tells that the connection lives; idle ones are cut by proxies after a minute or so."""
BEAT: Final = b": drawing\n\n"


async def event_stream(
    generating: Coroutine[None, None, GenerationResult],
    events_of: Callable[[GenerationResult], Iterable[Spliced]],
    headers_of: Callable[[GenerationResult], Mapping[str, str]],
    *,
    patience_s: float = PATIENCE_S,
    beat_s: float = BEAT_S,
) -> Response:
    """A stream of the result's events.

    Args:
        generating: The generation; it goes on where the caller leaves, because it is the gateway's own.
        events_of: Makes the events, with the bytes of images beside them.
        headers_of: Headers of a result that is there when the stream begins.
        patience_s: Seconds that the status line waits for the result.
        beat_s: Seconds between two signs of life after that.

    Raises:
        GatewayError: Every failure within the patience. A later one is an ``error`` event.
    """
    task = asyncio.ensure_future(generating)
    try:
        await asyncio.wait({task}, timeout=patience_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    headers = headers_of(task.result()) if task.done() else {}

    async def stream() -> AsyncIterator[bytes]:
        try:
            while not task.done():
                yield BEAT
                await asyncio.wait({task}, timeout=beat_s)
            for light, cargo in events_of(task.result()):
                for piece in splice_iter(light, cargo):
                    yield piece
        except GatewayError as error:
            yield _error_event(error)
        finally:
            task.cancel()

    # Proxies that gather answers before they pass them on are told to leave this one alone.
    unbuffered = {"Cache-Control": "private", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), headers={**unbuffered, **headers}, media_type="text/event-stream")


def _error_event(error: GatewayError) -> bytes:
    _, members = openai_error(error)
    data = json.dumps({"type": "error", "error": members})
    return b"event: error\ndata: " + data.encode() + b"\n\n"
