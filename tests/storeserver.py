"""A real store for tests: the server that flashgate would start itself, in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from app.store.embedded import find_server_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_TIMEOUT_S = 10.0


class ServerProcess:
    """A server on a Unix socket. ``stop`` and ``start`` keep the data; ``kill`` is ``kill -9``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "v.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None
        command = [
            *(str(find_server_binary()), "--port", "0", "--unixsocket", str(self.socket)),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            *("--maxmemory", "256mb", "--maxmemory-policy", "volatile-lfu", "--loglevel", "warning"),
            *self._options,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_it_answers(self.socket)

    def kill(self) -> None:
        """End it without a chance to write anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        os.kill(self.pid, number)


def wait_until_it_answers(path: Path) -> None:
    """Return when a server says PONG on this socket, or asks for a password; fail after READY_TIMEOUT_S."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                return
        time.sleep(0.01)
    raise AssertionError("The store's server did not start.")


@contextlib.contextmanager
def running_server(folder: Path, *options: str) -> Iterator[ServerProcess]:
    """A server of its own for one test, with further options for its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ServerProcess(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def running_valkey(folder: Path) -> Iterator[str]:
    """The address of a running server. The folder's path must be short enough for a socket (100 bytes)."""
    with running_server(folder) as server:
        yield server.url
