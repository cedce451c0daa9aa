"""Tenants, their keys, and who is calling."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from app.domain.budget import Budget
    from app.domain.request import CacheMode

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)

# What a key can be allowed to do. Nothing is allowed by default.
SCOPES = frozenset({"images", "admin"})


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What a tenant's requests do with the cache unless they say otherwise."""

    mode: CacheMode = "use"
    ttl_s: int = 86_400


@dataclass(frozen=True, slots=True)
class Key:
    """A gateway key without its secret; ``secret_hash`` is an HMAC-SHA-256 in hexadecimal.

    ``id`` is unique in the whole deployment, because a key is looked up by it.
    """

    id: str
    secret_hash: str = field(repr=False)
    scopes: frozenset[str]
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer of the gateway.

    Attributes:
        id: ``[a-z0-9][a-z0-9-]{0,62}``; it appears in store keys and metric labels.
        time_zone: Budget windows begin at this zone's midnight.
        models: Card ids that the tenant may use; empty for all.
        max_image_size: The largest size that it may ask for, or None.
        preview: Preview features that it may use, such as ``4K`` and ``video``.
    """

    id: str
    time_zone: ZoneInfo
    budgets: tuple[Budget, ...]
    keys: tuple[Key, ...]
    models: frozenset[str] = frozenset()
    max_image_size: str | None = None
    preview: frozenset[str] = frozenset({"4K", "video"})
    cache: CachePolicy = CachePolicy()


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant and the key it showed."""

    tenant: Tenant
    key: Key

    def may(self, scope: str) -> bool:
        """Whether the key carries this scope; nothing is allowed by default."""
        return scope in self.key.scopes
