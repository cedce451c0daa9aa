"""Clients of the store. All timeouts, retries and pool bounds are set here (docs/reliability.md R27).

redis-py's defaults retry ten times with five seconds each, so a hung server would block callers for a minute;
here a command fails within a second.
"""

from __future__ import annotations

import logging
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
"""Default limit of a ledger call in seconds, however many connections hang."""

AGAIN_S, FLICKER_S = 60.0, 5.0
"""Seconds between log lines of a lasting failure, and of one that comes and goes."""

SCHEMES = ("unix://", "redis://", "rediss://")


class UnsafeEviction(RuntimeError):
    """The server may evict the ledger: its maxmemory-policy is one of ``allkeys-*`` (docs/decisions/0031)."""


@dataclass(frozen=True, slots=True)
class StoreClients:
    """Two pools to one server, so that transfers of images never delay an admission.

    Attributes:
        ledger: Decodes replies to str.
        blobs: Returns replies as bytes, with longer timeouts.
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
    """Clients for a ``unix://``, ``redis://`` or ``rediss://`` address. They connect on first use.

    ``topologies`` describes the addresses of Sentinel and Cluster.

    Raises:
        ValueError: The address has another scheme, or the access options do not fit it.
    """
    more = {}
    if access is not None:
        more = access.build_options(url)
    ledger = _build_client(url, ledger_connections, ledger_timeout_s, {**more, "decode_responses": True})
    blobs = _build_client(url, blob_connections, BLOB_TIMEOUT_S, {**more, "decode_responses": False})
    try:
        yield StoreClients(ledger, blobs)
    finally:
        for client in (ledger, blobs):
            # A connection that cannot be closed ends with the process.
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
    """Translate all errors of store calls into the gateway's errors, within a deadline.

    Every exception is translated, because beside its own errors the client library lets those of transports,
    parsers and the event loop through, such as uvloop's RuntimeError for a connection that has just closed.
    So the block must contain client calls only.

    Raises:
        InternalError: A script rejected its arguments, which is a bug of the gateway.
        StoreUnavailable: Any other failure; budgets fail closed.
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
"""Errors of the client for an unreachable store; any other error is logged with its traceback."""


class FailureLog:
    """Logs why the store fails: one line per cause, and one per minute while it lasts.

    Args:
        stage: The activity that failed.
        address: Address of the store, without secrets.
        clock: A monotonic clock in seconds.
        diagnose: Diagnoses an error at an address; by default, as one of Redis.
    """

    def __init__(
        self,
        stage: str,
        address: str = "",
        clock: Callable[[], float] = time.monotonic,
        diagnose: Callable[[BaseException, str], Diagnosis] = diagnose,
    ) -> None:
        self._diagnose = diagnose
        self._stage = stage
        self._address = address
        self._clock = clock
        self._last: Diagnosis | None = None
        self._said_at = self._again_at = 0.0

    def failed(self, error: BaseException | None) -> None:
        """Log a failure, unless the same one was logged recently. None is ignored."""
        if error is None:
            return
        diagnosis = self._diagnose(error, self._address)
        if diagnosis == self._last and self._clock() < self._again_at:
            return
        log.warning(
            "the store fails",
            extra={"stage": self._stage, "diagnosis": diagnosis},
            exc_info=None if isinstance(error, _USUAL) else error,
        )
        self._last, self._said_at = diagnosis, self._clock()
        self._again_at = self._said_at + AGAIN_S

    def over(self) -> None:
        """Note that the store has answered, so that the next failure is logged sooner than a lasting one."""
        self._again_at = min(self._again_at, self._said_at + FLICKER_S)


class NodeMemory(NamedTuple):
    """The memory of a node in bytes; ``limit`` is 0 if there is none."""

    used: int
    limit: int
    policy: str

    @property
    def evicts_nothing(self) -> bool:
        """Whether a full node refuses writes instead of evicting keys."""
        return self.policy == "noeviction"


async def fetch_node_info(client: Redis | RedisCluster, section: str) -> list[dict[str, Any]]:
    """A section of INFO from the server, or from each primary of a cluster. Raises RedisError."""
    if not isinstance(client, RedisCluster):
        return [await client.info(section)]
    replies: Any = await client.info(section, target_nodes=RedisCluster.PRIMARIES)
    if all(isinstance(reply, dict) for reply in replies.values()):
        return list(replies.values())
    return [replies]  # a cluster with one primary replies like a single server


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
    """Refuse a server that would evict the ledger; return its policy, or None if INFO does not show it.

    Raises:
        UnsafeEviction: The policy is one of ``allkeys-*``.
        StoreUnavailable: The server does not answer.
    """
    async with translate_store_errors():
        policies = sorted(node.policy for node in await fetch_memory(client) if node.policy)
    if not policies:
        return None
    policy = policies[0]  # "allkeys-…" sorts before all others
    if policy.startswith("allkeys-"):
        raise UnsafeEviction(
            f"The store's maxmemory-policy is {policy}, which evicts budgets; use volatile-lfu or noeviction."
        )
    return policy
