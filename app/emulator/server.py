"""Runs the emulator as a server: on an address of its own, or on a socket that its parent has bound."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.emulator.api import create_emulator
from app.emulator.delivery import TRANSPORT

if TYPE_CHECKING:
    from app.cards import Catalogue
    from app.emulator.options import EmulatorOptions

__all__ = ["create_emulator", "serve_emulator"]

_PR_SET_PDEATHSIG = 1
# Nothing is lost with an emulated answer.
_GRACE_S = 1


class _Protocol(HttpToolsProtocol):
    """Shows the connection to the application, so that it can rehearse losing it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: dict[str, Any] = dict(self.scope)
        scope["extensions"] = {TRANSPORT: self.transport}
        self.scope = scope  # type: ignore[assignment]


def serve_emulator(
    catalogue: Catalogue,
    options: EmulatorOptions,
    *,
    host: str = "127.0.0.1",
    port: int = 8081,
    fd: int | None = None,
    die_with_parent: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is running for at most a second and return.

    Args:
        catalogue: The models to emulate.
        options: How to.
        host: Where to listen, unless ``fd`` is given.
        port: Likewise; 0 for a free one.
        fd: A listening socket inherited from the parent.
        die_with_parent: End when the parent does, however it ends.
    """
    if die_with_parent:
        _die_with_parent()
    config = uvicorn.Config(
        create_emulator(catalogue, options=options),
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_S,
    )
    # uvicorn raises the signal that stopped it once more after it has shut down; the caller returns instead.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    sockets = None
    if fd is not None:
        sockets = [socket.socket(fileno=fd)]
    uvicorn.Server(config).run(sockets=sockets)


def _die_with_parent() -> None:
    """Ask the kernel for a signal at the parent's death, and watch a piped standard input for its end.

    The pipe also covers other systems than Linux, and a parent that died before the kernel was asked.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_at_end_of_input, name="parent", daemon=True).start()


def _end_at_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
