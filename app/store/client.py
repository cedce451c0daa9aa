"""Connections: every timeout, retry and pool bound is written down here (docs/reliability.md R27).

redis-py's own defaults retry ten times with five seconds each, which turns a hung server into a minute
of waiting; here a command fails within a second.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff

from app.domain.errors import GatewayError, InternalError, StoreUnavailable
from app.resilience.best_effort import best_effort
from app.resilience.deadlines import time_limit
from app.store import topologies
from app.store.diagnosis import diagnose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.resilience.diagnosis import Diagnosis
    from app.store.access import Access

log = logging.getLogger(__name__)

LEDGER_TIMEOUT_S = 0.4
CONNECT_TIMEOUT_S = 0.25
BLOB_TIMEOUT_S = 2.0
DEADLINE_S = 0.95
"""No ledger call takes longer by default, however many connections hang."""

AGAIN_S, FLICKER_S = 60.0, 5.0
"""How often a failure is logged that lasts, and one that comes and goes."""

SCHEMES = ("unix://", "redis://", "rediss://")


class UnsafeEviction(RuntimeError):
    """The server may evict the ledger: its maxmemory-policy is one of ``allkeys-*`` (docs/decisions/0031)."""


@dataclass(frozen=True, slots=True)
class StoreClients:
    """Two pools to one server, so that pictures on their way never hold up an admission.

    Attributes:
        ledger: Decodes replies to str.
        blobs: Leaves replies as bytes; longer timeouts.
    """

    ledger: Redis
    blobs: Redis


@asynccontextmanager
async def open_clients(
    url: str,
    *,
    ledger_connections: int = 32,
    blob_connections: int = 16,
    ledger_timeout_s: float = LEDGER_TIMEOUT_S,
    access: Access | None = None,
) -> AsyncIterator[StoreClients]:
    """Clients for a ``unix://``, ``redis://`` or ``rediss://`` address; nothing is connected yet.

    Sentinel and Cluster have addresses of their own; see ``topologies``.

    Raises:
        ValueError: The address has another scheme, or the access does not go with it.
    """
    more = {} if access is None else access.build_options(url)
    ledger = _build_client(url, ledger_connections, ledger_timeout_s, {**more, "decode_responses": True})
    blobs = _build_client(url, blob_connections, BLOB_TIMEOUT_S, {**more, "decode_responses": False})
    try:
        yield StoreClients(ledger, blobs)
    finally:
        for client in (ledger, blobs):
            # A connection that does not close in time goes with the process.
            with best_effort("closing"):
                await topologies.close(client)


def _build_client(url: str, connections: int, timeout_s: float, more: dict[str, Any]) -> Redis:
    topology = topologies.parse(url)
    if topology is None and not url.startswith(SCHEMES):
        raise ValueError(
            f"A store's address begins with one of {', '.join(SCHEMES)}, redis+sentinel://, redis+cluster://."
        )
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": timeout_s,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # Safe although a reply may be lost: every script may be repeated (docs/reliability.md R4).
        "retry": Retry(FullJitterBackoff(cap=0.1, base=0.01), 1),
        "protocol": 2,  # a new connection then needs no handshake
        "driver_info": None,
        **more,
    }
    if not url.startswith("unix://"):
        options |= {"socket_keepalive": True, "health_check_interval": 15}
    if topology is not None:
        return topologies.build_client(topology, options)
    return Redis.from_pool(BlockingConnectionPool.from_url(url, **options))


@asynccontextmanager
async def translate_store_errors(deadline_s: float = DEADLINE_S) -> AsyncIterator[None]:
    """Turns whatever talking to the store raises into the gateway's words, within the deadline.

    Anything at all: beside its own errors the client library lets through those of transports, parsers and
    the event loop, such as uvloop's RuntimeError for a connection that has just closed. So nothing but calls
    of the client stands inside.

    Raises:
        InternalError: A script refused its arguments: a fault of the gateway.
        StoreUnavailable: Everything else; budgets fail closed.
    """
    try:
        async with time_limit(deadline_s):
            yield
    except GatewayError:
        raise
    except redis.exceptions.ResponseError as error:
        if "INVALID" in str(error):
            raise InternalError("The ledger refused the gateway's arguments.") from error
        raise StoreUnavailable("The store answers with an error.", retry_after_s=1) from error
    except Exception as error:
        raise StoreUnavailable(retry_after_s=1) from error


_USUAL = (
    redis.exceptions.RedisError,
    redis.exceptions.RedisClusterException,
    OSError,
    EOFError,
    RuntimeError,
)
"""What a store that is away makes the client raise; where anything else comes from is logged as well."""


class FailureLog:
    """Logs why the store fails: a line for each cause, and one a minute while it lasts.

    Args:
        stage: What was being done.
        address: Of the store, for people.
        clock: Seconds that never go back.
    """

    def __init__(self, stage: str, address: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._stage = stage
        self._address = address
        self._clock = clock
        self._last: Diagnosis | None = None
        self._said_at = self._again_at = 0.0

    def failed(self, error: BaseException | None) -> None:
        """Note a failure; None where the store itself has not failed."""
        if error is None:
            return
        diagnosis = diagnose(error, self._address)
        if diagnosis == self._last and self._clock() < self._again_at:
            return
        unusual = not isinstance(error, _USUAL)
        log.warning(
            "the store fails",
            extra={"stage": self._stage, "diagnosis": diagnosis},
            exc_info=unusual and error,
        )
        self._last, self._said_at = diagnosis, self._clock()
        self._again_at = self._said_at + AGAIN_S

    def over(self) -> None:
        """Note that the store has answered; what fails now and then is not told each time."""
        self._again_at = min(self._again_at, self._said_at + FLICKER_S)


class NodeMemory(NamedTuple):
    """What a node of the store uses, in bytes; ``limit`` is 0 where there is none."""

    used: int
    limit: int
    policy: str

    @property
    def evicts_nothing(self) -> bool:
        """Whether a full node refuses to write."""
        return self.policy == "noeviction"


async def fetch_node_info(client: Redis | RedisCluster, section: str) -> list[dict[str, Any]]:
    """A section of INFO of every node that writes: one, or a cluster's primaries. Raises RedisError."""
    if not isinstance(client, RedisCluster):
        return [await client.info(section)]
    replies: Any = await client.info(section, target_nodes=RedisCluster.PRIMARIES)
    # A cluster of one primary answers like a single server.
    several = all(isinstance(reply, dict) for reply in replies.values())
    return list(replies.values()) if several else [replies]


async def fetch_memory(client: Redis) -> list[NodeMemory]:
    """The memory of every node. Raises RedisError."""
    nodes = await fetch_node_info(client, "memory")
    return [
        NodeMemory(
            int(node["used_memory"]), int(node.get("maxmemory", 0)), str(node.get("maxmemory_policy") or "")
        )
        for node in nodes
    ]


async def check_eviction(client: Redis) -> str | None:
    """Refuses a server that would evict the ledger; returns its policy.

    Managed servers may forbid CONFIG; INFO tells the policy there, and None means that neither does.

    Raises:
        UnsafeEviction: The policy is one of ``allkeys-*``.
        StoreUnavailable: The server does not answer.
    """
    async with translate_store_errors():
        policies = sorted(node.policy for node in await fetch_memory(client) if node.policy)
    policy = policies[0] if policies else None  # "allkeys-…" is before all others
    if policy and re.match(r"allkeys-", policy):
        raise UnsafeEviction(
            f"The store's maxmemory-policy is {policy}, which evicts budgets; use volatile-lfu or noeviction."
        )
    return policy
