"""Entries of the audit log: which operator changed what, and when. They never hold a secret."""

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
        operator: ``environment`` for the key of the environment, else ``<tenant>/<key id>``.
        tenant_id: The tenant concerned; None for all tenants.
        key_id: The key that was created, rotated or revoked, or None.
        changed: The names of the tenant's fields that changed.
        detail: Amounts and times of a budget change, or empty.
        fingerprint: The one piece of work that was purged, or None.
        request_id: The id of the operator's request, as in the access log.
        id: Assigned by the store, ascending; empty before the event is stored.
        at_ms: Store time, Unix milliseconds; 0 before the event is stored.
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
