"""Tries whether the store does what serving needs, and finds out why not.

A server that answers PING may still refuse every admission: its user may not run scripts, it is a replica,
or its memory is full. So at start, and for each readiness check, everything that admission and settlement
do is done once, by the same user, on keys of its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from app.ledger.scripting import Scripts
from app.resilience.deadlines import time_limit
from app.resilience.diagnosis import Diagnosis
from app.store import keys, topologies
from app.store.calls import StoreCalls
from app.store.client import UnsafeEviction, check_eviction
from app.store.diagnosis import diagnose

if TYPE_CHECKING:
    from app.ledger.notifications import Notifications
    from app.store.client import StoreClients

log = logging.getLogger(__name__)

PROBE_S = 0.4
"""How long a server that cannot be understood may take to show whether it speaks TLS."""

_IN_DOUBT = frozenset({"connection_closed", "no_answer", "tls", "no_store"})
_PLAIN = (
    "It speaks without TLS: write FLASHGATE_REDIS_URL as redis://…, or take the port on which it speaks TLS"
)
_TLS = "It speaks TLS: write FLASHGATE_REDIS_URL as rediss://…"


class Trial:
    """Tries the store when called; concurrent callers share one trial.

    Args:
        clients: The clients to try.
        notifications: Reports whether the subscription works.
    """

    def __init__(self, clients: StoreClients, notifications: Notifications) -> None:
        self._clients = clients
        self._scripts = Scripts(clients.ledger)
        self._notifications = notifications
        self._calls = StoreCalls()
        self._trying: asyncio.Task[Diagnosis | None] | None = None
        self._last: Diagnosis | None = None
        self._doubts: dict[str, Diagnosis] = {}
        self.address = topologies.describe_address(clients.ledger)

    async def __call__(self) -> Diagnosis | None:
        """Return what is wrong with the store, or None; a change is logged."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try_store())
        diagnosis = await asyncio.shield(self._trying)
        if diagnosis is None and self._last is not None:
            log.warning("the store can be used again")
        if diagnosis is not None and diagnosis != self._last:
            log.error(
                "the store cannot be used: nothing that costs is served", extra={"diagnosis": diagnosis}
            )
        self._last = diagnosis
        return diagnosis

    async def _try_store(self) -> Diagnosis | None:
        try:
            await self._run_every_command()
        except UnsafeEviction as error:
            remedy = "Set maxmemory-policy to volatile-lfu or noeviction, which keep budgets"
            return Diagnosis("evicts_books", self.address, str(error), remedy)
        except Exception as error:  # noqa: BLE001 - the client library lets through errors of every kind
            return await self._confirm_diagnosis(diagnose(error, self.address))
        refusal = self._notifications.refusal
        return None if refusal is None else diagnose(refusal, self.address)

    async def _run_every_command(self) -> None:
        """Run them concurrently, because a slow store still serves."""
        outcomes = await self._calls.run(
            asyncio.gather(
                self._scripts.run("trial", keys.TRIAL, [keys.WAKE_CHANNEL]),
                self._clients.ledger.eval("return redis.call('TYPE', KEYS[1])", 1, keys.TRIAL[0]),
                self._write_and_read_blob(),
                check_eviction(self._clients.ledger),
                return_exceptions=True,
            )
        )
        for each in outcomes:
            if isinstance(each, BaseException):
                raise each

    async def _write_and_read_blob(self) -> None:
        blobs = self._clients.blobs
        await self._calls.run(blobs.set(keys.TRIAL_PICTURE, b"1", px=1000))
        await self._calls.run(blobs.get(keys.TRIAL_PICTURE))
        await self._calls.run(blobs.unlink(keys.TRIAL_PICTURE))

    async def _confirm_diagnosis(self, diagnosis: Diagnosis) -> Diagnosis:
        """Return the diagnosis; if only one side may use TLS, find out what the server speaks."""
        endpoint = topologies.find_endpoint(self._clients.ledger)
        if endpoint is None or diagnosis.reason not in _IN_DOUBT:
            return diagnosis
        host, port, encrypted = endpoint
        resolution_error = await _find_resolution_error(host, port)
        if resolution_error is not None:
            return diagnose(resolution_error, self.address)
        if diagnosis.cause not in self._doubts:
            is_other_protocol = await (_is_plain(host, port) if encrypted else _is_tls(host, port))
            if not is_other_protocol:
                return diagnosis
            reason, remedy = ("plain_port", _PLAIN) if encrypted else ("tls_port", _TLS)
            self._doubts[diagnosis.cause] = replace(diagnosis, reason=reason, remedy=remedy)
        return self._doubts[diagnosis.cause]


async def _find_resolution_error(host: str, port: int) -> OSError | None:
    """Return why a host name cannot be resolved, for which the client library may report a timeout."""
    try:
        async with time_limit(PROBE_S):
            await asyncio.get_running_loop().getaddrinfo(host, port)
    except socket.gaierror as error:
        return error
    except TimeoutError:
        return socket.gaierror(socket.EAI_AGAIN, "")
    return None


async def _is_plain(host: str, port: int) -> bool:
    with suppress(OSError, asyncio.IncompleteReadError):
        async with time_limit(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return (await reader.readexactly(1)) in {b"+", b"-"}
            finally:
                await _close(writer)
    return False


async def _is_tls(host: str, port: int) -> bool:
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # nothing is said to it
    with suppress(OSError):
        async with time_limit(PROBE_S):
            _, writer = await asyncio.open_connection(host, port, ssl=anybody)
            await _close(writer)
            return True
    return False


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
