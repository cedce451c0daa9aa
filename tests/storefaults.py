"""A store that misbehaves on demand: a proxy in a thread of its own, in front of a real server.

It reads commands one by one, so that a fault can be given to some commands and not to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from types import TracebackType

SLOW_S = 0.2


@dataclass(frozen=True)
class Fault:
    """What becomes of commands.

    Attributes:
        kind: ``refuse`` connections, ``hang`` for ever, ``slow`` down, answer an ``error``, ``reset``
            the connection in the middle of the reply, or ``drop`` the reply.
        text: The error, without its dash.
        commands: Names of the commands that it befalls; all where none is named.
        times: How many commands it befalls, or None for all of them.
    """

    kind: str
    text: str = ""
    commands: tuple[str, ...] = ()
    times: int | None = None


class StoreProxy:
    """Listens on a socket and speaks to a server's; ``fault`` may be changed at any moment.

    Attributes:
        commands: How many commands came through to the proxy.
    """

    def __init__(self, listen: Path, server: Path) -> None:
        self._listen, self._server = listen, server
        self._fault: Fault | None = None
        self._left: int | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self.commands = 0

    @property
    def url(self) -> str:
        """The address at which clients meet the proxy."""
        return f"unix://{self._listen}"

    @property
    def fault(self) -> Fault | None:
        """What befalls commands now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._run(self._changed(fault))

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._listener = await asyncio.start_unix_server(self._accepted, str(self._listen))

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for _ in range(3):  # whoever was accepted just now has a task only at the loop's next turns
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, asyncio.sleep(0), return_exceptions=True)

    async def _changed(self, fault: Fault | None) -> None:
        refused = self._fault is not None and self._fault.kind == "refuse"
        self._fault, self._left = fault, fault.times if fault else None
        if fault is not None and fault.kind == "refuse":
            await self._close()
            self._listen.unlink(missing_ok=True)
        elif refused:
            await self._open()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._server))
        except (OSError, asyncio.CancelledError) as stopped:
            writer.close()
            if isinstance(stopped, OSError):
                return
            raise
        replies = asyncio.create_task(_pumped(server_reader, writer))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    command = await _command(reader)
                    self.commands += 1
                    if not await self._befall(command, writer, server_writer):
                        return
        finally:
            for end in (writer, server_writer):
                end.close()
            replies.cancel()
            await asyncio.gather(replies, return_exceptions=True)

    async def _befall(
        self, command: bytes, client: asyncio.StreamWriter, server: asyncio.StreamWriter
    ) -> bool:
        """Forward a command, or do to it what is asked; False ends the connection."""
        fault = self._of(command)
        match fault.kind if fault else "":
            case "hang":
                await asyncio.Event().wait()
            case "slow":
                await asyncio.sleep(SLOW_S)
            case "error":
                assert fault is not None
                client.write(f"-{fault.text}\r\n".encode())
                return True
            case "reset":
                client.write(b"*3\r\n$4\r\nle")
                await client.drain()
                return False
            case "drop":
                server.write(command)
                await server.drain()
                return False
        server.write(command)
        await server.drain()
        return True

    def _of(self, command: bytes) -> Fault | None:
        fault = self._fault
        if fault is None or self._left == 0:
            return None
        name = command.split(b"\r\n", 3)[2].decode(errors="replace").upper()
        if fault.commands and name not in fault.commands:
            return None
        if self._left is not None:
            self._left -= 1
        return fault


async def _pumped(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()


async def _command(reader: asyncio.StreamReader) -> bytes:
    """One command as it was sent."""
    head = await reader.readuntil(b"\r\n")
    parts = [head]
    for _ in range(int(head[1:])):
        length = await reader.readuntil(b"\r\n")
        parts += [length, await reader.readexactly(int(length[1:]) + 2)]
    return b"".join(parts)
