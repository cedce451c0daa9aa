"""A real HTTP server on a loopback port that answers what a test tells it, odd framing included."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Reply = Callable[["Received", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Upstream:
    """The server: what it was asked, and how it answers."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    reply: Reply = None  # type: ignore[assignment]  # every test sets one


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """A server on a free port of this machine."""
    state = Upstream()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                length = int(headers.get("content-length", "0"))
                state.received.append(Received(method, path, headers, await reader.readexactly(length)))
                await state.reply(state.received[-1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        for task in tuple(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def head(status: int, length: int | None, **headers: str) -> bytes:
    """A response's head; without a length the body is chunked."""
    lines = [f"HTTP/1.1 {status} Whatever", "content-type: application/json"]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def answering(body: Any, status: int = 200, *, chunk: int | None = None, **headers: str) -> Reply:
    """Answer with JSON, whole or in chunks of so many bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        if chunk is None:
            writer.write(head(status, len(content), **headers) + content)
            return
        writer.write(head(status, None, **headers))
        for start in range(0, len(content), chunk):
            piece = content[start : start + chunk]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return reply


def dropping(sent: bytes = b"") -> Reply:
    """Write some bytes, then end the connection."""

    async def reply(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    return reply


async def trickling(_: Received, writer: asyncio.StreamWriter) -> None:
    """Send white space for ever, often enough that no single read takes long."""
    writer.write(head(200, None))
    while True:
        writer.write(b"1\r\n \r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silence(_: Received, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


def png(width: int = 8, height: int = 4, filler: bytes = b"") -> bytes:
    """A PNG with this header, whole as far as its chunks go; the filler is in a chunk nobody reads."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\x7f" * 3 * width for _ in range(height)))
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), chunk(b"IDAT", rows)]
    if filler:
        parts.append(chunk(b"fiLl", filler))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")
