"""Opens the sockets that the gateway listens on, before anything else is started."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from app.resilience.diagnosis import Diagnosis, describe_system_error

if TYPE_CHECKING:
    from collections.abc import Mapping


class CannotListen(Exception):
    """A port cannot be opened; ``diagnosis`` says why."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(str(diagnosis))
        self.diagnosis = diagnosis


def open_sockets(host: str, ports: Mapping[str, int]) -> list[socket.socket]:
    """Open sockets for every address of a host and every port, those of the first port first.

    Args:
        host: An address or a name, such as localhost, which has several addresses.
        ports: Ports by the variable that sets them; 0 for any free one. Equal ports are opened once.

    Raises:
        CannotListen: A port cannot be opened; then all sockets are closed.
    """
    opened: list[socket.socket] = []
    try:
        for port in dict.fromkeys(ports.values()):
            variable = next(name for name, value in ports.items() if value == port)
            opened += _open_sockets(host, port, variable)
    except CannotListen:
        for listener in opened:
            listener.close()
        raise
    return opened


def _open_sockets(host: str, port: int, variable: str) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            try:
                opened.append(_bind(family, kind, protocol, address))
            except OSError as error:
                # A name may have an address of a family that this machine does not support.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} or len(addresses) == 1:
                    raise
    except OSError as error:
        for listener in opened:
            listener.close()
        raise CannotListen(_diagnose(error, f"{host}:{port}", variable)) from None
    if not opened:
        nowhere = OSError(errno.EADDRNOTAVAIL, "")
        raise CannotListen(_diagnose(nowhere, f"{host}:{port}", variable))
    return opened


def _bind(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[object, ...]
) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _diagnose(error: OSError, place: str, variable: str) -> Diagnosis:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        remedy = "Set FLASHGATE_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0"
    elif error.errno == errno.EACCES:
        remedy = f"Set {variable} to a port from 1024 on, or allow this user to open lower ones"
    else:
        remedy = f"Stop the process that listens there, or set {variable} to another port"
    cause = f"{type(error).__qualname__}: {describe_system_error(error)}"
    return Diagnosis("cannot_listen", place, cause, remedy)
