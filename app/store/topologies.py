"""Clients for stores of more than one server: Sentinel and Cluster.

* ``redis+sentinel://[user:password@]host:port,host:port/name``  the primary that the sentinels name
* ``redis+cluster://[user:password@]host:port,host:port``        a cluster, found from any of its nodes

``rediss+…`` speaks TLS to the servers. The credentials are those of the servers; sentinels have none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST, PORT = "localhost", 6379
"""Defaults for an address without host or port."""

NODE_CONNECTIONS = 256
"""A cluster's client fails instead of waiting for a free connection, so it gets more of them."""

_ADDRESS = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<user>[^:@/]*):(?P<password>[^@/]*)@)?(?P<hosts>[^/@?]+)(?:/(?P<name>[\w.-]+))?"
)
_HOST = re.compile(r"(?P<host>[^:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


class Topology(NamedTuple):
    """A parsed address. ``name`` is the service that the sentinels watch; empty for a cluster."""

    kind: str
    hosts: tuple[tuple[str, int], ...]
    name: str
    tls: bool
    credentials: Mapping[str, str]


class _SentinelPool(BlockingConnectionPool, SentinelConnectionPool):
    """The library's Sentinel pool, which waits for a free connection instead of failing."""


def parse(url: str) -> Topology | None:
    """Parse an address of Sentinel or Cluster; None for any other.

    Raises:
        ValueError: The address is malformed. The message does not repeat it, because it may hold a password.
    """
    if not url.partition("://")[0].endswith(("+sentinel", "+cluster")):
        return None
    match = _ADDRESS.fullmatch(url)
    hosts = [_HOST.fullmatch(host) for host in match["hosts"].split(",")] if match else [None]
    if match is None or None in hosts or (match["kind"] == "sentinel") != bool(match["name"]):
        raise ValueError(
            "A store's address is redis+sentinel://host:port,host:port/name or redis+cluster://host:port."
        )
    credentials = {"username": match["user"], "password": match["password"]}
    return Topology(
        match["kind"],
        tuple((host["host"].strip("[]"), int(host["port"])) for host in hosts if host),
        match["name"] or "",
        match["scheme"] == "rediss",
        {name: unquote(value) for name, value in credentials.items() if value},
    )


def build_client(topology: Topology, options: dict[str, Any]) -> Redis:
    """Build a client from the options for a pool of a single server."""
    options = {**options, **topology.credentials}
    if topology.kind == "cluster":
        # It has the commands of a single server's client, but does not inherit from it.
        return cast("Redis", _build_cluster(topology, options))
    sockets = {name: value for name, value in options.items() if name.startswith("socket_")}
    sentinel = Sentinel(topology.hosts, sentinel_kwargs=sockets)  # type: ignore[no-untyped-call]
    managed = SentinelManagedConnection
    if topology.tls:
        managed = SentinelManagedSSLConnection
    pool = _SentinelPool(
        connection_class=managed, service_name=topology.name, sentinel_manager=sentinel, **options
    )
    return Redis.from_pool(pool)


async def discover_nodes(client: Redis | RedisCluster) -> None:
    """Let a cluster's client discover its nodes, which it needs before it can subscribe."""
    if isinstance(client, RedisCluster):
        await client.initialize()


def describe_address(client: Redis | RedisCluster) -> str:
    """A store's hosts and ports, or its socket path, for log lines; never a user or a password."""
    if isinstance(client, RedisCluster):
        return ",".join(client.nodes_manager.startup_nodes)
    pool = client.connection_pool
    if isinstance(pool, _SentinelPool):
        sentinels = (one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels)
        return f"{pool.service_name} at {','.join(_format_address(each) for each in sentinels)}"
    return _format_address(pool.connection_kwargs)


def find_endpoint(client: Redis | RedisCluster) -> tuple[str, int, bool] | None:
    """Host, port and whether TLS is used, for a single server; None for any other store."""
    if isinstance(client, RedisCluster) or isinstance(client.connection_pool, _SentinelPool):
        return None
    pool = client.connection_pool
    options = pool.connection_kwargs
    if "path" in options:
        return None
    return (
        options.get("host", HOST),
        options.get("port", PORT),
        issubclass(pool.connection_class, SSLConnection),
    )


def _format_address(options: Mapping[str, Any]) -> str:
    if "path" in options:
        return str(options["path"])
    host, port = options.get("host", HOST), options.get("port", PORT)
    if ":" in host:  # an IPv6 address
        return f"[{host}]:{port}"
    return f"{host}:{port}"


async def close(client: Redis) -> None:
    """Close a client and its connections to sentinels, if any."""
    try:
        await client.aclose()
    finally:
        pool = getattr(client, "connection_pool", None)
        if isinstance(pool, _SentinelPool):
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()


def _build_cluster(topology: Topology, options: dict[str, Any]) -> RedisCluster:
    node_options = {
        name: value for name, value in options.items() if name not in {"timeout", "max_connections"}
    }
    nodes = [ClusterNode(host, port) for host, port in topology.hosts]
    return RedisCluster(
        startup_nodes=nodes,
        max_connections=NODE_CONNECTIONS,
        ssl=topology.tls,
        **node_options,
    )
