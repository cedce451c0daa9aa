"""``streamGenerateContent``: the status while it is known in time, then signs of life, then the answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response, StreamingResponse

from app.domain.errors import GatewayError
from app.media.splicing import splice_iter
from app.surfaces.gemini.answered import MEDIA_TYPES, written
from app.surfaces.gemini.errors import google_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from app.surfaces.gemini.answered import Form

PATIENCE_S: Final = 5.0
"""How long the status line waits: what fails within it is answered with its own status."""
BEAT_S: Final = 15.0
"""How often a blank line tells that the connection lives; idle ones are cut by proxies after a minute or so.

It is white space in either form. Google's clients take a comment, which would be usual, for a broken event.
"""
_BEAT: Final[Mapping[Form, bytes]] = {"json": b"\r\n", "array": b"\r\n", "sse": b"\r\n\r\n"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a caller gets: a document in Google's words, its bytes beside it, status and headers."""

    document: str
    cargo: Mapping[str, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


async def stream(
    answering: Coroutine[None, None, Answered],
    form: Form,
    *,
    request_id: str,
    path: str,
    patience_s: float = PATIENCE_S,
    beat_s: float = BEAT_S,
) -> Response:
    """A stream of one document, because a generation is delivered when it is paid for and kept.

    Args:
        answering: The generation; it goes on where the caller leaves, because it is the gateway's own.
        form: ``sse`` or ``array``.
        request_id: For an error after the status line.
        path: Likewise.
        patience_s: Seconds that the status line waits for the answer.
        beat_s: Seconds between two signs of life after that.

    Raises:
        GatewayError: Every failure within the patience. A later one is an event of the stream.
    """
    task = asyncio.ensure_future(answering)
    try:
        await asyncio.wait({task}, timeout=patience_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    early = task.result() if task.done() else Answered("")
    if early.status != HTTPStatus.OK:
        # A refusal is no stream: its status is told, and its body is read as one document.
        return Response(early.document, early.status, headers=early.headers, media_type="application/json")

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while not task.done():
                yield _BEAT[form]
                await asyncio.wait({task}, timeout=beat_s)
            answered = task.result()
            for piece in splice_iter(written(answered.document, form), answered.cargo):
                yield piece
        except GatewayError as error:
            yield written(json.dumps({"error": google_error(error, request_id, path)}), form)
        finally:
            task.cancel()

    # Proxies that gather answers before they pass them on are told to leave this one alone.
    unbuffered = {"Cache-Control": "private", "X-Accel-Buffering": "no"}
    headers = {**unbuffered, **early.headers}
    return StreamingResponse(pieces(), headers=headers, media_type=MEDIA_TYPES[form])
