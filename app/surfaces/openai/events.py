"""Server-sent events of a picture on its way, in OpenAI's dialect."""

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
"""A comment."""


async def stream_events(
    generating: Coroutine[None, None, GenerationResult],
    events_of: Callable[[GenerationResult], Iterable[Spliced]],
    headers_of: Callable[[GenerationResult], Mapping[str, str]],
    *,
    patience_s: float,
    beat_s: float = HEARTBEAT_S,
) -> Response:
    """A stream of the result's events; see ``stream``.

    Args:
        generating: The generation.
        events_of: Makes the events, with the bytes of images beside them.
        headers_of: Headers of a result that is there when the stream begins.
        patience_s: Seconds that the status line waits for the result.
        beat_s: Seconds between two signs of life after that.

    Raises:
        GatewayError: Every failure within the patience. A later one is an ``error`` event.
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
