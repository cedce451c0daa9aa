"""The emulator as a child process of the gateway.

The gateway binds the loopback port and keeps it, so the address survives restarts of the child, and calls
that arrive in between wait in the socket's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from typing import TYPE_CHECKING

import httpx2

from app.resilience.deadlines import time_limit
from app.resilience.resources import Resource
from app.resilience.tasks import BackgroundTasks, cancel_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_LOG = logging.getLogger(__name__)
_BACKLOG = 128
_START_S_MAX = 30.0
_STOP_S_MAX = 5.0
_BACKOFF_S_MIN, _BACKOFF_S_MAX = 0.1, 10.0
_SETTLED_AFTER_S = 30.0


class EmulatorChild(Resource):
    """Supervises one emulator: ``async with EmulatorChild() as child: child.base_url``.

    Args:
        command: What to run; ``--fd N --die-with-parent`` is appended. By default ``app.emulator``,
            which loads nothing of the gateway.
        options: More arguments, such as ``--faults FILE``.
    """

    def __init__(self, command: Sequence[str] | None = None, options: Sequence[str] = ()) -> None:
        self._command = (*(command or (sys.executable, "-m", "app.emulator")), *options)
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._address = ""
        self.restarts = 0

    @property
    def base_url(self) -> str:
        """Where it listens, without a path or a final slash. Constant once entered."""
        return self._address

    @property
    def pid(self) -> int | None:
        """The id of the running process, or None during a restart."""
        process = self._process
        if process is not None and process.returncode is None:
            return process.pid
        return None

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        """Start it and wait until it answers. Raises TimeoutError or RuntimeError where it does not."""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        try:
            await self._start()
            await self._wait_until_ready()
            async with BackgroundTasks() as tasks:
                tasks.keep_running(self._supervise, "emulator")
                yield
        finally:
            await self._stop()

    async def _start(self) -> None:
        if self._socket is None:
            raise RuntimeError("the emulator's child is started by entering its context")
        descriptor = self._socket.fileno()
        # Standard input is a pipe that is never written to: its end tells the child that the parent is gone.
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            "--fd",
            str(descriptor),
            "--die-with-parent",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
        )

    async def _wait_until_ready(self) -> None:
        """Wait for the first answer. The socket already accepts, so one request waits as long as needed."""
        process = self._process
        if process is None:
            raise RuntimeError("the emulator was not started")
        # A context without certificates: they take 80 ms to load, and this is plain HTTP to ourselves.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx2.AsyncClient(timeout=_START_S_MAX, trust_env=False, verify=plain) as client:
            answer = asyncio.create_task(client.get(f"{self._address}/emulator/calls"))
            exit_task = asyncio.create_task(process.wait())
            try:
                await asyncio.wait({answer, exit_task}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    raise RuntimeError(
                        f"the emulator ended with status {process.returncode} before it answered"
                    )
                (await answer).raise_for_status()
            except httpx2.TimeoutException as error:
                raise TimeoutError(f"the emulator did not answer within {_START_S_MAX:.0f} s") from error
            finally:
                await cancel_tasks([answer, exit_task])

    async def _supervise(self) -> None:
        """Restart the child whenever it exits, with a growing pause while it keeps exiting at once."""
        clock = asyncio.get_running_loop()
        pause_s = _BACKOFF_S_MIN
        while True:
            process, started = self._process, clock.time()
            if process is not None:
                status = await process.wait()
                _LOG.warning("the emulator ended with status %s and is started again", status)
            if clock.time() - started > _SETTLED_AFTER_S:
                pause_s = _BACKOFF_S_MIN
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _BACKOFF_S_MAX)
            self.restarts += 1
            try:
                await self._start()
            except OSError as error:
                self._process = None
                _LOG.warning("the emulator could not be started: %s", error)

    async def _stop(self) -> None:
        """Send SIGTERM, and SIGKILL if the child does not exit."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with time_limit(_STOP_S_MAX):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process is not None and process.stdin is not None:
            process.stdin.close()
            # A child that is gone has already broken the pipe.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await process.stdin.wait_closed()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
