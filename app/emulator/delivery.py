"""How a response's bytes are sent: complete, in small pieces, or cut off."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import Response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from starlette.types import Receive, Scope, Send

TRANSPORT = "flashgate.transport"
_PIECE_BYTES = 1024
_TRICKLED_BYTES_MAX = 64 * _PIECE_BYTES
_LINGER_NOT = struct.pack("ii", 1, 0)


class Pieces(Response):
    """A response of several byte strings, sent one after another and never joined."""

    def __init__(
        self, pieces: Iterable[bytes], media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self.pieces = [piece for piece in pieces if piece]
        super().__init__(media_type=media_type, headers=headers)
        self.headers["content-length"] = str(sum(map(len, self.pieces)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Trickle(Pieces):
    """Sends the first 64 KiB in pieces of 1 KiB."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        whole = b"".join(self.pieces)
        cuts = [*range(0, min(len(whole), _TRICKLED_BYTES_MAX), _PIECE_BYTES), _TRICKLED_BYTES_MAX]
        small = [whole[start : start + _PIECE_BYTES] for start in cuts[:-1]]
        self.pieces = [*small, whole[_TRICKLED_BYTES_MAX:]]
        await super().__call__(scope, receive, send)


class CutOff(Pieces):
    """Announces the whole response and sends half of it or nothing; then the connection ends.

    Args:
        pieces: The whole response.
        media_type: Its media type.
        how: ``truncated`` closes the connection and ``reset`` resets it, both in the middle of the body;
            ``dropped`` closes it before the first byte.
    """

    def __init__(
        self, pieces: Iterable[bytes], media_type: str, how: Literal["truncated", "reset", "dropped"]
    ) -> None:
        super().__init__(pieces, media_type)
        self._how = how

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half of it."""
        whole = b"".join(self.pieces)
        if self._how != "dropped":
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
        transport: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
        if transport is None:
            raise ConnectionAbortedError("a rehearsed loss of the connection")
        if self._how == "reset":
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        else:
            transport.close()
        message: dict[str, Any] = {}
        while message.get("type") != "http.disconnect":
            message = dict(await receive())
