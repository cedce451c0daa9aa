"""What operators did, as it is kept: who, what, to whom and when, and never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal[
    "tenant.create",
    "tenant.change",
    "tenant.delete",
    "key.create",
    "key.rotate",
    "key.revoke",
    "budget.credit",
    "budget.override",
    "cache.purge",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change that an operator made.

    Attributes:
        operator: Who: ``environment`` for the key of the environment, else ``<tenant>/<key id>``.
        tenant_id: Whom it concerned; None for all tenants.
        key_id: The key that was made, rotated or revoked, or None.
        changed: The names of the tenant's fields that have another value now.
        detail: Amounts and times of a change of a budget, in the gateway's words, or empty.
        fingerprint: The one piece of work that was purged, or None.
        request_id: Of the request that asked for it, as in the access log.
        id: Given by the store; later events have greater ones. Empty before it is kept.
        at_ms: The store's clock; 0 before it is kept.
    """

    action: Action
    operator: str
    tenant_id: str | None = None
    key_id: str | None = None
    changed: tuple[str, ...] = ()
    fingerprint: str | None = None
    detail: str = ""
    request_id: str = ""
    id: str = ""
    at_ms: int = 0
