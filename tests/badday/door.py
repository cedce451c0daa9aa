"""A door before a back end: while it is shut, nobody is there, and whoever was inside is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from tests.processes import free_port

if TYPE_CHECKING:
    from types import TracebackType

_PIECE_BYTES = 65_536


class Door:
    """Forwards a port of this machine to another one, as ``async with``.

    Args:
        url: Of what stands behind the door.
    """

    def __init__(self, url: str) -> None:
        self._behind = int(url.rpartition(":")[2])
        self._port = free_port()
        self._listener: asyncio.Server | None = None
        self._inside: set[asyncio.Task[None]] = set()
        self.url = f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shut()

    async def open(self) -> None:
        """Let callers in, on the same port as ever."""
        self._listener = await asyncio.start_server(self._enter, "127.0.0.1", self._port)

    async def shut(self) -> None:
        """Take no connection any more, and end those that there are."""
        if self._listener is not None:
            self._listener.close()
        for task in tuple(self._inside):
            task.cancel()
        await asyncio.gather(*self._inside, return_exceptions=True)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._inside.add(task)
        task.add_done_callback(self._inside.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copied(reader, behind_writer))
                tasks.create_task(_copied(behind_reader, writer))
        finally:
            writer.transport.abort()
            behind_writer.transport.abort()


async def _copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_PIECE_BYTES):
            sink.write(data)
            await sink.drain()
        sink.close()
