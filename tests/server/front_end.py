"""A front end that limits as Cloud Run's does: a TCP proxy of HTTP/1.1, one request a connection.

Cloud Run refuses requests over 32 MiB, and answers over 32 MiB that declare their length; what is sent in
chunks passes whatever its size (its documentation of quotas, "Maximum HTTP/1 request size" and "response
size").
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_BYTES = 32 << 20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PIECE_BYTES = 1 << 18


def _own_answer(status: str, text: str) -> bytes:
    body = text.encode()
    return (
        f"HTTP/1.1 {status}\r\nServer: front end\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


TOO_LARGE = _own_answer("413 Request Entity Too Large", "The request is too large for the front end.")
NO_ANSWER = _own_answer("500 Internal Server Error", "The response was too large.")


@dataclass(frozen=True)
class FrontEnd:
    """Stands between callers and a gateway on the loopback interface."""

    gateway_port: int
    limit_bytes: int
    callers: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    def connected(self, caller: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Serve a connection, and know it: one that ends before it is served has to be closed as well."""
        serving = asyncio.create_task(self.serve(caller, answer))
        self.callers[serving] = answer
        serving.add_done_callback(self.callers.pop)

    async def stop(self) -> None:
        """End and close what is left."""
        left = dict(self.callers)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for answer in left.values():
            with suppress(asyncio.CancelledError):  # of the wait of the task that was cancelled
                await _closed(answer)

    async def serve(self, caller: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Pass one request and its answer on, or refuse either."""
        try:
            head = await caller.readuntil(b"\r\n\r\n")
            if _declared(head) > self.limit_bytes:
                answer.write(TOO_LARGE)
                await answer.drain()
            else:
                await self._pass(head, caller, answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one side left, which the other is told by the end of its connection
        finally:
            await _closed(answer)

    async def _pass(self, head: bytes, caller: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self.gateway_port)
        to_gateway.write(_closing(head))
        sending = asyncio.create_task(_pass_on(caller, to_gateway))
        try:
            await self._answered(gateway, answer)
        finally:
            sending.cancel()
            to_gateway.close()  # before anything is waited for, because that may be cut short
            await asyncio.gather(sending, return_exceptions=True)
            await _closed(to_gateway)

    async def _answered(self, gateway: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        head = await gateway.readuntil(b"\r\n\r\n")
        if _declared(head) > self.limit_bytes:
            answer.write(NO_ANSWER)
        else:
            answer.write(head)
            await _pass_on(gateway, answer)
        await answer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _declared(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


def _closing(head: bytes) -> bytes:
    """The head with the word that this connection serves no other request."""
    kept = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE)
    return kept[:-2] + b"Connection: close\r\n\r\n"


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(_PIECE_BYTES):
        target.write(piece)
        await target.drain()


@contextmanager
def front_end_of(gateway_port: int, limit_bytes: int = LIMIT_BYTES) -> Iterator[str]:
    """The base URL of a front end before a gateway, in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    front_end = FrontEnd(gateway_port, limit_bytes)
    started = asyncio.start_server(front_end.connected, "127.0.0.1", 0, limit=_PIECE_BYTES)
    server = loop.run_until_complete(started)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_stopped(server, front_end), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stopped(server: asyncio.Server, front_end: FrontEnd) -> None:
    server.close()
    await front_end.stop()
