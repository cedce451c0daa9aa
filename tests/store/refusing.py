"""Stores that do not let a gateway work, each for a reason of its own, and what an operator must be told."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.processes import free_port
from tests.store.managed import Authority
from tests.storefaults import Fault, StoreProxy
from tests.storeserver import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.storeserver import ServerProcess

PASSWORD = "not-to-be-seen"
NEEDED = ("~fg:*", "&fg:*", "+@all")
DEFAULT = ("--user", "default", "on", f">{PASSWORD}", *NEEDED)


@dataclass(frozen=True)
class Refusal:
    """A store, and what is told of it.

    Attributes:
        opened: The store's address while it stands.
        reason: The word for programs.
        cause: What the error's class and words are, or a part of them.
        remedy: A part of what to do.
    """

    opened: Callable[[Path], contextlib.AbstractContextManager[str]]
    reason: str
    cause: str
    remedy: str


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[ServerProcess, int]]:
    """A server on a port of its own."""
    port = free_port()
    with running_server(folder / "s", "--port", str(port), "--bind", "127.0.0.1", *options) as process:
        yield process, port


def user(*rules: str) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """A server whose user for the gateway has these rules."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[str]:
        with server(folder, "--user", "gate", "on", f">{PASSWORD}", *rules) as (_, port):
            yield f"redis://gate:{PASSWORD}@127.0.0.1:{port}"

    return opened


def address(text: str, *options: str) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """A server met by this address; ``{port}`` is its port, ``{free}`` one where nobody listens."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[str]:
        with server(folder, *(each.format(free=free_port()) for each in options)) as (_, port):
            yield text.format(port=port, free=free_port(), folder=folder, password=PASSWORD)

    return opened


@contextlib.contextmanager
def replica(folder: Path) -> Iterator[str]:
    """A replica that may only be read."""
    with (
        server(folder / "one") as (_, primary),
        server(folder / "two", "--replicaof", f"127.0.0.1 {primary}") as (_, port),
    ):
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def full(folder: Path) -> Iterator[str]:
    """A server that evicts nothing, and has no memory left."""
    with server(folder, "--maxmemory-policy", "noeviction", "--maxmemory", "1") as (_, port):
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def stopped(folder: Path) -> Iterator[str]:
    """A server that takes connections, and says nothing."""
    with server(folder) as (process, port):
        process.signal(signal.SIGSTOP)
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.signal(signal.SIGCONT)


def answering(text: str, *commands: str) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """A server that answers commands, or all of them, with an error."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[str]:
        with running_server(folder / "s") as process, StoreProxy(folder / "p", process.socket) as proxy:
            proxy.fault = Fault("error", text, commands)
            yield proxy.url

    return opened


def over_tls(url: str) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """A server that speaks TLS, met by this address; nobody gets any further than its certificate."""

    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[str]:
        context = Authority(folder).server("127.0.0.1")

        def shake_hands(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as encrypted:
                encrypted.recv(1)

        with answering_each(shake_hands) as port:
            yield url.format(port=port)

    return opened


@contextlib.contextmanager
def answering_each(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each connection gets its answer, in a thread of its own, and is closed."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            answer(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=serve, args=(listening.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


@contextlib.contextmanager
def something_else(_folder: Path) -> Iterator[str]:
    """A server of HTTP."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with answering_each(answer) as port:
        yield f"redis://127.0.0.1:{port}"


NO_CLUSTER = ("--cluster-enabled", "yes", "--cluster-port", "{free}", "--appendonly", "no")

REFUSALS = {
    "no scripts": Refusal(
        user(*NEEDED, "-evalsha", "-eval"),
        "permission_denied",
        "NoPermissionError: NOPERM User gate has no permissions to run the 'evalsha' command",
        "ACL SETUSER",
    ),
    "no scripts by text": Refusal(
        user(*NEEDED, "-eval"), "permission_denied", "no permissions to run the 'eval' command", "ACL SETUSER"
    ),
    "no writes": Refusal(
        user(*NEEDED, "-@write"),
        "permission_denied",
        "User gate has no permissions to run the 'hset' command",
        "docker-compose.yml",
    ),
    "no streams": Refusal(
        user(*NEEDED, "-xadd"), "permission_denied", "no permissions to run the 'xadd' command", "ACL SETUSER"
    ),
    "no pictures": Refusal(
        user(*NEEDED, "-unlink"),
        "permission_denied",
        "no permissions to run the 'unlink' command",
        "ACL SETUSER",
    ),
    "no announcements": Refusal(
        user(*NEEDED, "-publish"),
        "permission_denied",
        "no permissions to run the 'publish' command",
        "ACL SETUSER",
    ),
    "no listening": Refusal(
        user(*NEEDED, "-subscribe"),
        "permission_denied",
        "no permissions to run the 'subscribe' command",
        "ACL SETUSER",
    ),
    "no channels": Refusal(
        user("~fg:*", "resetchannels", "+@all"),
        "permission_denied",
        "No permissions to access a channel",
        "begin with fg:",
    ),
    "other keys": Refusal(
        user("~other:*", "&fg:*", "+@all"),
        "permission_denied",
        "No permissions to access a key",
        "begin with fg:",
    ),
    "no information": Refusal(
        user(*NEEDED, "-info"), "permission_denied", "no permissions to run the 'info' command", "ACL SETUSER"
    ),
    "wrong password": Refusal(
        address("redis://default:{password}x@127.0.0.1:{port}", *DEFAULT),
        "wrong_password",
        "AuthenticationError: invalid username-password pair",
        "right user and password",
    ),
    "no password": Refusal(
        address("redis://127.0.0.1:{port}", *DEFAULT),
        "password_required",
        "AuthenticationError: Authentication required",
        "right user and password",
    ),
    "a password too many": Refusal(
        address("redis://:{password}@127.0.0.1:{port}"),
        "no_password_expected",
        "AuthenticationError: AUTH <password> called without any password configured",
        "Remove the password",
    ),
    "TLS on a plain port": Refusal(
        address("rediss://:{password}@127.0.0.1:{port}"), "plain_port", "TimeoutError", "redis://…"
    ),
    "plain on a TLS port": Refusal(
        over_tls(f"redis://:{PASSWORD}@127.0.0.1:{{port}}"), "tls_port", "Connection", "rediss://…"
    ),
    "an unknown authority": Refusal(
        over_tls(f"rediss://:{PASSWORD}@127.0.0.1:{{port}}"),
        "certificate",
        "SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
        "FLASHGATE_REDIS_CA_FILE",
    ),
    "an unknown host": Refusal(
        address("redis://:{password}@store.invalid:{port}"),
        "unknown_host",
        "gaierror: EAI_",
        "Correct the host",
    ),
    "nobody": Refusal(
        address("redis://:{password}@127.0.0.1:{free}"),
        "connection_refused",
        "ConnectionRefusedError: ECONNREFUSED: Connection refused",
        "Start the store",
    ),
    "nobody at any address": Refusal(
        address("redis://:{password}@localhost:{free}"),
        "connection_refused",
        "ECONNREFUSED",
        "Start the store",
    ),
    "no socket": Refusal(
        address("unix://{folder}/none.sock"), "no_socket", "FileNotFoundError: ENOENT", "correct the path"
    ),
    "a replica": Refusal(replica, "read_only", "ReadOnlyError: READONLY You can't write", "the primary"),
    "no memory": Refusal(full, "store_full", "OutOfMemoryError: OOM command not allowed", "maxmemory"),
    "loading": Refusal(
        answering("LOADING Valkey is loading the dataset in memory"),
        "loading",
        "BusyLoadingError: LOADING Valkey is loading the dataset in memory",
        "Wait",
    ),
    "no cluster yet": Refusal(
        address("redis://127.0.0.1:{port}", *NO_CLUSTER),
        "cluster_down",
        "ClusterDownError: CLUSTERDOWN Hash slot not served",
        "CLUSTER INFO",
    ),
    "a cluster for a single server": Refusal(
        address("redis+cluster://127.0.0.1:{port}"),
        "no_cluster",
        "ResponseError: This instance has cluster support disabled",
        "redis://host:port",
    ),
    "another node's": Refusal(
        answering("MOVED 1 127.0.0.1:1", "EVALSHA"), "cluster", "MovedError: MOVED", "redis+cluster://"
    ),
    "no sentinel": Refusal(
        address("redis+sentinel://127.0.0.1:{free}/books"),
        "connection_refused",
        "ECONNREFUSED",
        "Start the store",
    ),
    "a disk that is full": Refusal(
        answering("MISCONF Errors writing to the AOF file: No space left on device", "EVALSHA"),
        "store_cannot_save",
        "ResponseError: MISCONF Errors writing to the AOF file",
        "disk",
    ),
    "too few replicas": Refusal(
        answering("NOREPLICAS Not enough good replicas to write.", "EVALSHA"),
        "no_replicas",
        "ResponseError: NOREPLICAS",
        "min-replicas-to-write",
    ),
    "a renamed command": Refusal(
        answering("ERR unknown command 'EVALSHA', with args beginning with: 'a prompt'", "EVALSHA"),
        "unknown_command",
        "ResponseError: unknown command 'EVALSHA'",
        "Enable this command",
    ),
    "another database": Refusal(
        address("redis://127.0.0.1:{port}/99"),
        "no_such_database",
        "ResponseError: DB index is out of range",
        "Remove the database number",
    ),
    "silence": Refusal(stopped, "no_answer", "TimeoutError", "alive"),
    "something else": Refusal(something_else, "no_store", "InvalidResponse", "Another service listens"),
    "an eviction of books": Refusal(
        address("redis://127.0.0.1:{port}", "--maxmemory-policy", "allkeys-lru"),
        "evicts_books",
        "maxmemory-policy is allkeys-lru",
        "volatile-lfu",
    ),
}
"""By what is wrong with them."""
