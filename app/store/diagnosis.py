"""Diagnoses of store failures for operators: the cause, the address and a remedy.

A server may repeat what it was sent, so only known messages of its error replies are shown.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

import redis.exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from app.resilience.diagnosis import Diagnosis, describe_for_log, describe_system_error, get_errno

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Cause(NamedTuple):
    """A stable reason code, and the remedy."""

    reason: str
    remedy: str


_URL = "FLASHGATE_REDIS_URL"
_ACCOUNT = f"Put the right user and password into {_URL}, as redis://user:password@host:port"
_PERMISSIONS = (
    "Give the store's user what the gateway needs (ACL SETUSER); docker-compose.yml shows all of it"
)

_CODES: dict[type[Exception], str] = {
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.ClusterCrossSlotError: "CROSSSLOT",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.TryAgainError: "TRYAGAIN",
}
"""The error codes that the client library strips from a reply and turns into a class."""

_CLOSED = _Cause(
    "connection_closed", f"Check the server's log; if it expects TLS, write {_URL} as rediss://…"
)
_SILENT = _Cause(
    "no_answer",
    f"Check that the server is alive and reachable; if {_URL} says rediss://, check that it supports TLS",
)
_NETWORK = _Cause("unreachable", "Check the network between gateway and store")
_SYSTEM: dict[int, _Cause] = {
    errno.ECONNREFUSED: _Cause("connection_refused", f"Start the store, or correct host and port in {_URL}"),
    errno.ENOENT: _Cause("no_socket", f"Start the store, or correct the path in {_URL}"),
    errno.EACCES: _Cause("socket_denied", "Let the gateway's user open that socket"),
    errno.EHOSTUNREACH: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ETIMEDOUT: _SILENT,
    errno.ECONNRESET: _CLOSED,
    errno.EPIPE: _CLOSED,
    errno.EMFILE: _Cause("too_many_files", "Raise the gateway's limit on open files (ulimit -n)"),
}

_ANSWERS: dict[str, _Cause] = {
    r"(NOPERM )?(ACL failure in script: )?(User \S{1,64}|[Tt]his user|The user executing the script) "
    r"(has no permissions to run the '[\w|-]{1,40}' command|can't run this command|has no permissions)": (
        _Cause("permission_denied", _PERMISSIONS)
    ),
    r"(NOPERM )?(ACL failure in script: )?No permissions to access a (key|channel|database)": _Cause(
        "permission_denied", f"{_PERMISSIONS}; its keys and channels begin with fg:"
    ),
    r"NOPERM": _Cause("permission_denied", _PERMISSIONS),
    r"(WRONGPASS )?invalid (username-password pair or user is disabled|password)": (
        _Cause("wrong_password", _ACCOUNT)
    ),
    r"(NOAUTH )?Authentication required": _Cause("password_required", _ACCOUNT),
    r"AUTH <password> called without any password configured|Client sent AUTH, but no password is set": (
        _Cause("no_password_expected", f"Remove the password from {_URL}, or set it on the server")
    ),
    r"READONLY( You can't write against a read only (replica|slave))?": _Cause(
        "read_only", f"Point {_URL} to the primary, or use redis+sentinel://, which follows it"
    ),
    r"OOM( command not allowed when used memory > 'maxmemory'| allow-oom flag is not set on the script)?": (
        _Cause("store_full", "Give the store more memory (maxmemory), or let it evict: volatile-lfu")
    ),
    r"LOADING( (Redis|Valkey) is loading the dataset in memory)?": _Cause(
        "loading", "Wait until the server has read its data from disk"
    ),
    r"MASTERDOWN( Link with MASTER is down)?": _Cause("no_primary", f"Point {_URL} to the primary"),
    r"CLUSTERDOWN( The cluster is down| Hash slot not served)?": _Cause(
        "cluster_down", "Run CLUSTER INFO on a node: slots without a server, or a missing majority"
    ),
    r"MOVED|ASK|CROSSSLOT": _Cause(
        "cluster", f"The server is part of a cluster: write {_URL} as redis+cluster://…"
    ),
    r"This instance has cluster support disabled": _Cause(
        "no_cluster", f"The server is not part of a cluster: write {_URL} as redis://host:port"
    ),
    r"MISCONF( (Redis|Valkey) is configured to save RDB snapshots| Errors writing to the AOF file)?": _Cause(
        "store_cannot_save", "Check the server's log and disk: it refuses writes that it cannot save"
    ),
    r"NOREPLICAS": _Cause("no_replicas", "Bring the server's replicas back, or lower min-replicas-to-write"),
    r"BUSY|UNKILLABLE": _Cause("store_busy", "Stop the script that has been running too long on the server"),
    r"max number of clients": _Cause("too_many_clients", "Raise the server's maxclients"),
    r"DB index is out of range|SELECT is not allowed in cluster mode": _Cause(
        "no_such_database", f"Remove the database number at the end of {_URL}"
    ),
    r"Connection closed by server": _CLOSED,
    r"No connection available": _Cause(
        "no_connection_free", "The gateway's connections are all in use: add replicas"
    ),
    r"There is no access token for the store": _Cause(
        "no_access_token", "Check the metadata server and the instance's service account"
    ),
    r"unknown command '[\w|-]{1,40}'": _Cause(
        "unknown_command", "Enable this command on the server, or on the proxy in front of it"
    ),
}

_TLS = _Cause("tls", f"Check that the port supports TLS; if it does not, write {_URL} as redis://…")
_CERTIFICATE = _Cause(
    "certificate", "Set FLASHGATE_REDIS_CA_FILE to the store's authority, or use the host in its certificate"
)
_HOST = _Cause("unknown_host", f"Correct the host in {_URL}, or check name resolution")
_SENTINEL = _Cause(
    "no_primary", f"Check that the sentinels answer and watch a primary with the name in {_URL}"
)
_OTHER = _Cause("store_fails", "Check the server's log")


def diagnose(error: BaseException, address: str) -> Diagnosis:
    """Diagnose an error of the client library.

    Args:
        error: The error; its chain of causes is examined.
        address: Address of the store, without user and password.
    """
    links = list(_iterate_causes(error))
    for matcher in (_match_reply, _match_system_error, _match_library_error):
        for link in links:
            match = matcher(link)
            if match is not None:
                words, known = match
                name = type(link).__qualname__
                return Diagnosis(known.reason, address, f"{name}: {words}" if words else name, known.remedy)
    return Diagnosis(_OTHER.reason, address, type(error).__qualname__, _OTHER.remedy)


@describe_for_log.register(redis.exceptions.RedisError)
@describe_for_log.register(redis.exceptions.RedisClusterException)
def _describe_store_error(error: Exception) -> str:
    match = _match_reply(error)
    if match is None:
        return ""
    return match[0]


def _iterate_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes. NoScriptError is skipped, because the client handles it itself."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        if not isinstance(link, redis.exceptions.NoScriptError):
            yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def _match_reply(link: BaseException) -> tuple[str, _Cause] | None:
    """The known part of an error reply of the server, and its cause."""
    if not isinstance(link, redis.exceptions.RedisError):
        return None
    code = next((code for kind, code in _CODES.items() if isinstance(link, kind)), "")
    reply = f"{code} {link}".strip()
    for pattern, known in _ANSWERS.items():
        match = re.match(pattern, reply)
        if match is not None:
            return match[0], known
    if not isinstance(link, redis.exceptions.ResponseError):
        return None
    word = re.match(r"[A-Z]{2,20}\b|user_script:\d+", reply)
    if word is None:
        return "", _OTHER
    return word[0], _OTHER


def _match_system_error(link: BaseException) -> tuple[str, _Cause] | None:
    """The error of the operating system or of TLS, and its cause."""
    if not isinstance(link, OSError):
        return None
    if isinstance(link, ssl.SSLError):
        known = _TLS
        if isinstance(link, ssl.SSLCertVerificationError):
            known = _CERTIFICATE
    elif isinstance(link, socket.gaierror):
        known = _HOST
    else:
        number = get_errno(link)
        if number is None:
            return None
        known = _SYSTEM.get(number, _OTHER)
    return describe_system_error(link), known


def _match_library_error(link: BaseException) -> tuple[str, _Cause] | None:
    """The cause of an error of the client library itself."""
    if isinstance(link, MasterNotFoundError):
        return "", _SENTINEL
    if isinstance(link, redis.exceptions.TimeoutError | TimeoutError):
        return "", _SILENT
    if isinstance(link, redis.exceptions.InvalidResponse):
        return "", _Cause("no_store", f"Another service listens there: correct host and port in {_URL}")
    if isinstance(link, redis.exceptions.ConnectionError | ConnectionError | EOFError | RuntimeError):
        return "", _CLOSED
    return None
