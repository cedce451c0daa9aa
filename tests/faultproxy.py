"""A proxy between a client and a store that loses what it is told to lose (docs/reliability.md R77)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class FaultProxy:
    """Forwards a Unix socket to another one.

    Attributes:
        swallow: How many of the next replies are lost, once the request has reached the server.
        cut: Whether a lost reply also ends its connection; otherwise the client waits in vain.
        swallowed: How many were lost so far.
    """

    def __init__(self, listen: Path, server: Path) -> None:
        self.listen, self.server = listen, server
        self.swallow = 0
        self.cut = False
        self.swallowed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address at which clients meet the proxy."""
        return f"unix://{self.listen}"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._accepted, str(self.listen))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(str(self.server))
        try:
            await asyncio.wait(
                {
                    asyncio.create_task(self._requests(reader, server_writer)),
                    asyncio.create_task(self._replies(server_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for end in (writer, server_writer):
                end.close()

    async def _requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    async def _replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if self.swallow > 0:
                    self.swallow -= 1
                    self.swallowed += 1
                    if self.cut:
                        return
                    continue
                sink.write(data)
                await sink.drain()
