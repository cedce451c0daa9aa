"""Server-sent events in OpenAI's dialect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from app.media.splicing import splice_iter
from app.surfaces.http.streams import HEARTBEAT_S, StreamDialect, stream
from app.surfaces.openai.errors import render_openai_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from starlette.responses import Response

    from app.domain.errors import GatewayError
    from app.generation.order import GenerationResult
    from app.surfaces.openai.response import Spliced

HEARTBEAT: Final = b": drawing\n\n"
"""An SSE comment."""


async def stream_events(
    generating: Coroutine[None, None, GenerationResult],
    events_of: Callable[[GenerationResult], Iterable[Spliced]],
    headers_of: Callable[[GenerationResult], Mapping[str, str]],
    *,
    patience_s: float,
    beat_s: float = HEARTBEAT_S,
) -> Response:
    """Stream the events of a result; see ``stream``.

    Args:
        generating: The generation.
        events_of: Renders the events, with the bytes of images by placeholder.
        headers_of: Builds the headers for a result that is ready when the stream begins.
        patience_s: Seconds before the status line is sent.
        beat_s: Seconds between two heartbeats after that.

    Raises:
        GatewayError: A failure within ``patience_s``. A later one is an ``error`` event.
    """

    def pieces_of(result: GenerationResult) -> Iterator[bytes]:
        for skeleton, blobs in events_of(result):
            yield from splice_iter(skeleton, blobs)

    dialect = StreamDialect("text/event-stream", HEARTBEAT, pieces_of, _encode_error, headers_of)
    return await stream(generating, dialect, patience_s=patience_s, beat_s=beat_s)


def _encode_error(error: GatewayError) -> bytes:
    _, members = render_openai_error(error)
    data = json.dumps({"type": "error", "error": members})
    return b"event: error\ndata: " + data.encode() + b"\n\n"
